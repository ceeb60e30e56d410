#!/usr/bin/env bash
# Sinks of the real binary against real counterparts: rsyslog over UDP, TCP and TLS, and the libraries that verify Standard
# Webhooks and CloudEvents. Exit code 1 where one of them reads anything else than what was sent. PROFILE=release takes
# target/release.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
command -v rsyslogd >/dev/null || missing+=(rsyslog)
[[ -n $(find /usr/lib -name lmnsd_gtls.so -print -quit) ]] || missing+=(rsyslog-gnutls)
command -v openssl >/dev/null || missing+=(openssl)
if ((${#missing[@]})); then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
fi
../real-parts/venv.sh
exec .venv/bin/python -W ignore run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
