#!/usr/bin/env bash
# A real nginx (auth_request) and a real Envoy (ext_authz over HTTP and over gRPC) that ask the real binary: let through,
# blocked, throttled, tagged, lifted, and requests that flow once checkgate is killed. They run with the files of
# deploy/authz/. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v nginx >/dev/null; then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends nginx-light
fi
../real-parts/venv.sh
exec .venv/bin/python run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
