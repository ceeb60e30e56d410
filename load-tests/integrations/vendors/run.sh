#!/usr/bin/env bash
# checkgate's sinks for vendors against receivers that are as strict as the vendors' public documentation. No vendor's own
# intake is asked. The vendors' clients are asked first, so that the receivers are known to be fair. PROFILE=release takes
# target/release; names of parts of the run (see run.py) run those alone.
set -euo pipefail
cd "$(dirname "$0")"

command -v openssl >/dev/null || {
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends openssl
}
../../real-parts/venv.sh
exec .venv/bin/python -W ignore run.py --binary "../../../target/${PROFILE:-debug}/checkgate" "$@"
