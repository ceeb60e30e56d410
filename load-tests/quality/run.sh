#!/usr/bin/env bash
# The quality of detection in one command: builds, replays, prints tables. With --write they go to
# docs/detection-quality.md, too. Needs nothing but Rust; takes some some two minutes of one core.
set -euo pipefail
cd "$(dirname "$0")/../.."

echo "quality: building" >&2
cargo build --release --locked --quiet --package checkgate-detectors --example quality

exec target/release/examples/quality "$@"
