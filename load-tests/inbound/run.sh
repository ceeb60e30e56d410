#!/usr/bin/env bash
# A real Alertmanager, and the signing library of Standard Webhooks, in front of the endpoints of the real binary: a firing
# alert bans its client, a resolved one lets it go, and signed messages hold once. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v prometheus-alertmanager >/dev/null; then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends prometheus-alertmanager
fi
../real-parts/venv.sh
exec .venv/bin/python run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
