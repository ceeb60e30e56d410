#!/usr/bin/env bash
# Real attack tools against a real model behind the real binary. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

./setup.sh
exec .venv/bin/python -W ignore run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
