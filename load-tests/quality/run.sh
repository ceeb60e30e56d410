#!/usr/bin/env bash
# The quality of detection in one command: builds, replays, prints tables. With --write they go to
# docs/detection-quality.md, too. Needs nothing but Rust; takes some minutes of one core. With --peers other drift
# detectors are installed from PyPI and measured on the same streams, too (--long: the slow ones whole). With --attackers
# real tools attack through the debug binary, too: see attackers/run.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

write=() peers=false attackers=false long=()
for argument in "$@"; do
    case "$argument" in
        --write) write=(--write) ;;
        --peers) peers=true ;;
        --attackers) attackers=true ;;
        --long) long=(--long) ;;
        *) echo "give --write, --peers, --attackers, --long, or nothing" >&2; exit 2 ;;
    esac
done

echo "quality: building" >&2
cargo build --release --locked --quiet --package checkgate-detectors --example quality --example drift_quality

target/release/examples/quality "${write[@]}"
target/release/examples/drift_quality "${write[@]}"
if $attackers; then
    cargo build --locked --quiet --package checkgate
    load-tests/quality/attackers/run.sh --starts 2 --budget 400 "${write[@]}"
fi
if $peers; then
    load-tests/quality/drift/peers.sh target/release/examples/drift_quality "${write[@]}" "${long[@]}"
fi
