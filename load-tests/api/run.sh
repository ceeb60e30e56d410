#!/usr/bin/env bash
# Asks the admin API of the real binary whatever its own description allows, and what it forbids, and looks whether the
# answers are as described (schemathesis). PROFILE=release takes target/release; SEED repeats a run, EXAMPLES sets how
# many requests each check makes of an operation.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD

../real-parts/venv.sh
binary="$here/../../target/${PROFILE:-debug}/checkgate"
seed="${SEED:-$RANDOM}"
scratch=$(mktemp -d)
admin="127.0.0.1:${PORT:-18766}"

token=$("$binary" token new schemathesis --scopes admin)
{
    printf 'listen: unix:%s/in.sock\nupstream: http://127.0.0.1:9\n' "$scratch"
    printf 'state: %s/state\nfindings: %s/findings.jsonl\n' "$scratch" "$scratch"
    sed -n '/^admin:/,$p' <<<"$token"
    printf '  listen: %s\n' "$admin"
} >"$scratch/checkgate.yaml"
"$binary" run -c "$scratch/checkgate.yaml" 2>"$scratch/log" &
process=$!
trap 'kill "$process" 2>/dev/null; wait "$process" 2>/dev/null || true; rm -rf "$scratch"' EXIT
for _ in $(seq 100); do
    if curl --silent --fail --output /dev/null "http://$admin/readyz"; then break; fi
    sleep 0.1
done

echo "seed $seed"
# Left to the tests of the binary: /v1/events, which has no end; requests without the token, of which ten would shut
# this machine out for a minute; and undeclared methods, since TRACE is refused before the API sees it.
check() {
    # It leaves what it found in its folder and tries that again.
    (cd "$scratch" && SCHEMATHESIS_HOOKS=hooks PYTHONPATH="$here" timeout 300 "$here/.venv/bin/schemathesis" \
        run "http://$admin/openapi.json" \
        --url "http://$admin" \
        --header "Authorization: Bearer ${token%%$'\n'*}" \
        --exclude-checks unsupported_method,ignored_auth,missing_required_header \
        --max-examples "${EXAMPLES:-15}" \
        --seed "$seed" \
        --no-color \
        "$@")
}
check --exclude-path /v1/events --exclude-path '/v1/links/{token}' "$@"
# Last, because forged links shut this machine out as well.
check --include-path '/v1/links/{token}' "$@"
kill -0 "$process"
