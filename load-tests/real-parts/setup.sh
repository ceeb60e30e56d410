#!/usr/bin/env bash
# Installs scikit-learn and adversarial-robustness-toolbox into a virtual environment beside this file.
set -euo pipefail
cd "$(dirname "$0")"

exec ./venv.sh
