#!/usr/bin/env bash
# What attackers have at the block, in one command: attacks by adversarial-robustness-toolbox and scikit-learn, live, against
# five models, each straight, through checkgate with `enforce` and through checkgate with `degrade`. Seeds are drawn and
# printed; --seed repeats a run. --write puts tables and plot into docs/; --short is the form for every change: three models that
# no threshold was chosen on, six attacks, one starting row each. --served-by mlserver or mlflow puts these servers behind
# checkgate instead of a small one, and installs what they need. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

../../real-parts/setup.sh
case " $* " in
*" --served-by mlserver "*) ../../real-parts/clients/setup.sh ;;
*" --served-by mlflow "*) (cd mlflow && ../../../real-parts/venv.sh) ;;
esac
arguments=()
for argument in "$@"; do
    if [[ $argument == --short ]]; then
        arguments+=(--models patches wine diabetes --only HopSkipJump ZOO Square "one at a time" uniform natural
            --starts 1 --budget 250 --must-block 0.5)
    else
        arguments+=("$argument")
    fi
done
exec ../../real-parts/.venv/bin/python -W ignore run.py --binary "../../../target/${PROFILE:-debug}/checkgate" \
    "${arguments[@]}"
