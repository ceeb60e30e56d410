#!/usr/bin/env bash
# Do real receivers of OpenTelemetry take what checkgate exports, and say the same of it? ddapm-test-agent and rotel, by
# gRPC and by HTTP; exit code 1 where one of them does not. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

../real-parts/venv.sh
exec .venv/bin/python -W ignore run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
