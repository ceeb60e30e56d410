#!/usr/bin/env bash
# Makes .venv in the current folder hold what requirements.txt there names; does nothing where it holds that already.
set -euo pipefail

wanted=$(sha256sum requirements.txt)
if [[ -f .venv/installed && $(<.venv/installed) == "$wanted" ]]; then
    exit 0
fi
rm -rf .venv
"${PYTHON:-python3}" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
echo "$wanted" >.venv/installed
