#!/usr/bin/env bash
# checkgate, a model, honest clients and an attacker, watched by a real Prometheus and Alertmanager; exit code 1 where a
# panel shows nothing or no alert arrives. `--keep` leaves all of it up to look at. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
for pair in prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
fi
exec python3 run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
