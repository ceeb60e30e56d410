#!/usr/bin/env bash
# Does DogStatsD tell Datadog the same as a scrape? What checkgate sends is compared with what Datadog's OpenMetrics check
# makes of /metrics, and with the lines of Datadog's own client; exit code 1 where they differ. PROFILE=release takes
# target/release.
set -euo pipefail
cd "$(dirname "$0")"

../../real-parts/venv.sh
exec .venv/bin/python -W ignore run.py --binary "../../../target/${PROFILE:-debug}/checkgate" "$@"
