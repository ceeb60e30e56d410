#!/usr/bin/env bash
# What telemetry costs the request's thread, in instructions for each request, counted by callgrind: off, on, and with
# traces. Exit code 1 where requests that nobody traces cost over 3 % more. It builds the program, by PROFILE=release the
# one that counts; rustix reads the kernel's table by itself otherwise, which callgrind does not bear.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v valgrind >/dev/null; then
    apt-get update --quiet=2
    apt-get install --quiet=2 --yes --no-install-recommends valgrind
fi
profile=()
[[ ${PROFILE:-debug} == release ]] && profile=(--release)
cargo build --locked --quiet --package checkgate --features rustix/use-libc-auxv "${profile[@]}"
target=${CARGO_TARGET_DIR:-../../target}
exec python3 cost.py --binary "$target/${PROFILE:-debug}/checkgate" "$@"
