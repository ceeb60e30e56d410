#!/usr/bin/env bash
# Instructions of screen, decoders and engine for one exchange, counted by callgrind and compared with the committed
# figures: a guard against regressions that a busy machine cannot fool. Fails where a case needs over 5 % more.
#
#   load-tests/bench/instructions.sh               compare
#   load-tests/bench/instructions.sh decode        compare the cases whose name holds a text
#   UPDATE=1 load-tests/bench/instructions.sh      write the figures anew; read the difference before you commit it
set -euo pipefail
cd "$(dirname "$0")/../.."

committed=load-tests/bench/instructions.tsv
percent_max=5
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! command -v valgrind >/dev/null; then
    echo "callgrind is missing: apt-get install valgrind" >&2
    exit 1
fi
cargo build --release --locked --quiet --package checkgate --example instructions
program=${CARGO_TARGET_DIR:-target}/release/examples/instructions

# Instructions of one turn of a case: only the function `counted` and what it calls is collected.
instructions_of() {
    valgrind --tool=callgrind --callgrind-out-file="$scratch/profile" --toggle-collect='*counted*' \
        "$program" run "$1" "$2" 2>"$scratch/said" || { cat "$scratch/said" >&2; return 1; }
    awk -v times="$2" '/Collected :/ { printf "%.0f\n", $4 / times }' "$scratch/said"
}

{
    echo "# Instructions of one turn, counted by callgrind; load-tests/bench/instructions.sh compares with these."
    echo "# $(rustc --version)"
    printf '# case\tinstructions\n'
    for case in $("$program" list); do
        [[ $case == *"${1:-}"* ]] || continue
        count=$(instructions_of "$case" 500)
        printf '%s\t%s\n' "$case" "$count"
        echo "$case $count" >&2
    done
} >"$scratch/counted.tsv"

if [[ ${UPDATE:-} == 1 ]]; then
    if [[ -n ${1:-} ]]; then
        echo "UPDATE=1 counts all cases; leave \"$1\" out" >&2
        exit 1
    fi
    cp "$scratch/counted.tsv" "$committed"
    echo "$committed was written"
    exit
fi

awk -F '\t' -v percent_max="$percent_max" '
    /^# rustc/ { if (NR == FNR) compiler = $0; else if ($0 != compiler) other = 1; next }
    /^#/ { next }
    NR == FNR { committed[$1] = $2; next }
    FNR != NR && !shown { printf "%-24s %12s %12s %8s\n", "case", "committed", "now", "change"; shown = 1 }
    !($1 in committed) { printf "%-24s %12s %12d %8s\n", $1, "-", $2, "new"; failed = 1; next }
    {
        change = 100 * ($2 / committed[$1] - 1)
        worse = change > percent_max
        failed = failed || worse
        printf "%-24s %12d %12d %+7.1f%% %s\n", $1, committed[$1], $2, change, worse ? "above the bound" : ""
    }
    END {
        if (other) print "The committed figures are of another compiler: " substr(compiler, 3)
        if (failed) {
            printf "Above +%d %%, or new. If it is meant: UPDATE=1 load-tests/bench/instructions.sh\n", percent_max
            exit 1
        }
    }' "$committed" "$scratch/counted.tsv"
