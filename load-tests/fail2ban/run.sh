#!/usr/bin/env bash
# A real fail2ban with the filter, jail and action of deploy/fail2ban/ on the findings file of the real binary: it bans whom
# a decision blocks that acts, and nobody else, whatever stands in names and reasons. The ban goes into an nftables set in
# a network namespace of its own, or into a file where there may be none. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
for pair in fail2ban-client:fail2ban nft:nftables; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
fi
exec python3 run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
