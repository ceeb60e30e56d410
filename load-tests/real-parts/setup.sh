#!/usr/bin/env bash
# Installs scikit-learn and adversarial-robustness-toolbox into a virtual environment beside this file.
set -euo pipefail
cd "$(dirname "$0")"

wanted=$(sha256sum requirements.txt)
if [[ -f .venv/installed && $(<.venv/installed) == "$wanted" ]]; then
    exit 0
fi
rm -rf .venv
"${PYTHON:-python3}" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
echo "$wanted" >.venv/installed
