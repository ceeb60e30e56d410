#!/usr/bin/env bash
# Builds the fuzz targets with the stable toolchain and tries each for some seconds, beginning with the seeds in
# corpus/ and the files of the other tests. What was found is kept in target/fuzz/corpus for the next time; an input
# that breaks a target stays in target/fuzz/broken, and the script fails.
#
# proxy/fuzz/run.sh [SECONDS for each target, 20] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")"
target_dir=$(cd ../.. && pwd)/target
kept=$target_dir/fuzz
seconds=${1:-20}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=(screen_http1 screen_http2 screen_frames proxy_header decoders json config ledger)
fi

# In the same folder as the other builds: all crates but those that are fuzzed are the same, and built already.
CARGO_TARGET_DIR=$target_dir RUSTC_WRAPPER=$PWD/rustc cargo build --locked --quiet

# 0 seconds only build them.
[[ $seconds != 0 ]] || exit 0

seeds() {
    case $1 in
    decoders | json) echo ../fixtures/decode/* ;;
    config) echo ../../config/examples ../../config/invalid ;;
    *) echo "corpus/$1" ;;
    esac
}

for target in "${targets[@]}"; do
    mkdir -p "$kept/corpus/$target" "$kept/broken"
    options=("-max_total_time=$seconds" -max_len=2048 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
        "-artifact_prefix=$kept/broken/$target-")
    if [ -e "corpus/$target.dict" ]; then
        options+=("-dict=corpus/$target.dict")
    fi
    # shellcheck disable=SC2046
    if ! "$target_dir/debug/fuzz_$target" "${options[@]}" "$kept/corpus/$target" $(seeds "$target") \
        >"$kept/$target.log" 2>&1; then
        tail -n 60 "$kept/$target.log" >&2
        exit 1
    fi
    echo "$target: $(grep -a number_of_executed_units "$kept/$target.log" | grep -oE '[0-9]+$') inputs, none broke it"
done
