#!/usr/bin/env bash
# Installs MLServer and tritonclient into a virtual environment beside this file, and curl and nghttp by apt where they
# are missing. The environment has half a gigabyte.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v curl >/dev/null || ! command -v nghttp >/dev/null; then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends curl nghttp2-client
fi
exec ../venv.sh
