#!/usr/bin/env bash
# Real clients in front of a real model server behind the real binary. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

./setup.sh
exec .venv/bin/python -W ignore run.py --binary "../../../target/${PROFILE:-debug}/checkgate" "$@"
