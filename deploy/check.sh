#!/usr/bin/env bash
# Checks what can be checked of this folder without a container runtime, a cluster or a running systemd. Installs what it
# needs: systemd-analyze, ip and curl by apt where they are missing, the rest into .venv beside this file. Needs root.
# PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

binary=$(realpath "../target/${PROFILE:-debug}/checkgate")
# The version of Kubernetes whose schemas the manifests must fit: the first with native sidecars for everybody.
kubernetes=1.33
# The exposure that `systemd-analyze security` may find, of 100.
exposure_max=15
# Stands for the Secret of the manifests.
token=0123456789abcdef0123456789abcdef
work=$(mktemp -d)
pod=checkgate-pod-$$
client=checkgate-client-$$
trap clean_up EXIT

clean_up() {
    # Only what this script started runs in the two namespaces.
    local namespace
    for namespace in "$pod" "$client"; do
        if ip netns pids "$namespace" 2>/dev/null | xargs --no-run-if-empty kill; then
            ip netns delete "$namespace" 2>/dev/null || true
        fi
    done
    rm -rf "$work"
}

step() {
    printf -- '-- %s\n' "$*"
}

install_tools() {
    if ! command -v systemd-analyze >/dev/null || ! command -v ip >/dev/null || ! command -v curl >/dev/null; then
        apt-get update --quiet=2
        apt-get install --quiet=2 --yes --no-install-recommends systemd iproute2 curl
    fi
    ../load-tests/real-parts/venv.sh
}

check_containerfile() {
    .venv/bin/hadolint Containerfile
    # The image has glibc and libgcc and nothing else that the program could be linked against.
    local others
    others=$(ldd "$binary" | awk '{ print $1 }' | grep -vE '^(linux-vdso|libgcc_s|libc|libm|libpthread|libdl|librt|/lib64/ld-linux)' || true)
    if [[ -n $others ]]; then
        printf 'the image has no %s\n' $others >&2
        return 1
    fi
}

# Runs the program in a folder that holds it, its libraries and its configuration, as the user of the image, who may write
# to the state folder only: as near to the image as it gets without a container runtime.
check_alone() {
    local root=$work/root library
    install -D "$binary" "$root/usr/local/bin/checkgate"
    for library in $(ldd "$binary" | grep -oE '/[^ ]+'); do
        install -D "$library" "$root$library"
    done
    install -D --mode=0644 "$work/config-map.yaml" "$root/etc/checkgate/checkgate.yaml"
    # As an emptyDir is, with the fsGroup of the manifests.
    install -d --owner=0 --group=65532 --mode=2777 "$root/var/lib/checkgate"
    chmod 0755 "$work"
    local listen admin
    read -r listen admin < <(.venv/bin/python -c 'import socket
probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(probe.getsockname()[1] for probe in probes))')
    CHECKGATE_TOKEN=$token chroot --userspec=65532:65532 "$root" /usr/local/bin/checkgate run \
        --config /etc/checkgate/checkgate.yaml --listen "127.0.0.1:$listen" --admin "127.0.0.1:$admin" \
        >"$work/findings" 2>"$work/log" &
    local pid=$!
    if ! curl --silent --fail --retry 50 --retry-delay 1 --retry-connrefused --retry-all-errors \
        "http://127.0.0.1:$admin/readyz" || ! kill -TERM "$pid" || ! wait "$pid"; then
        cat "$work/log" >&2
        return 1
    fi
    test -s "$root/var/lib/checkgate/state/instance.key"
    # How many files may be open is this machine's affair.
    if grep --extended-regexp '"(WARN|ERROR)"' "$work/log" | grep --invert-match "limit on open files"; then
        return 1
    fi
}

# A network namespace as a pod has one, with a model server and checkgate as the ConfigMap has it, and a second one that
# stands for the rest of the cluster.
check_pod() {
    ip netns add "$pod"
    ip netns add "$client"
    ip link add eth0 netns "$pod" type veth peer name eth0 netns "$client"
    ip -netns "$pod" address add 192.0.2.1/24 dev eth0
    ip -netns "$client" address add 192.0.2.2/24 dev eth0
    ip -netns "$pod" link set lo up
    ip -netns "$pod" link set eth0 up
    ip -netns "$client" link set eth0 up
    mkdir "$work/model"
    echo "the model" >"$work/model/index.html"
    ip netns exec "$pod" .venv/bin/python -m http.server 8080 --bind 127.0.0.1 --directory "$work/model" \
        >/dev/null 2>&1 &
    CHECKGATE_TOKEN=$token ip netns exec "$pod" "$binary" run --config "$work/config-map.yaml" \
        --state "$work/pod-state" >/dev/null 2>"$work/pod-log" &
    if ! from_outside 200 8765 / || ! from_outside 200 8766 /readyz || ! from_outside 401 8766 /metrics ||
        ! from_outside 000 8080 /; then
        cat "$work/pod-log" >&2
        return 1
    fi
}

# What a client outside of the pod gets at a port: a status, or 000 where nobody listens.
from_outside() {
    local wanted=$1 url=http://192.0.2.1:$2$3 found try
    for try in {1..100}; do
        found=$(ip netns exec "$client" curl --silent --output /dev/null --max-time 5 --write-out '%{http_code}' "$url" || true)
        if [[ $found == "$wanted" ]]; then
            printf 'from outside of the pod: %s answers %s\n' "$url" "$found"
            return 0
        fi
        sleep 0.1
    done
    printf 'from outside of the pod: %s answers %s instead of %s after %s tries\n' "$url" "$found" "$wanted" "$try" >&2
    return 1
}

check_manifests() {
    .venv/bin/kubernetes-validate --strict --kubernetes-version "$kubernetes" kubernetes/*.yaml
    .venv/bin/python check.py kubernetes systemd/checkgate.service "$work"
    CHECKGATE_TOKEN=$token "$binary" check --config "$work/config-map.yaml"
}

check_unit() {
    "$binary" check --config systemd/checkgate.yaml
    # The paths of a machine where checkgate is installed become those of this one.
    sed "s|/usr/local/bin/checkgate|$binary|" systemd/checkgate.service >"$work/checkgate.service"
    # It says what it does not like and exits with 0 all the same.
    local said
    if ! said=$(systemd-analyze verify --man=no "$work/checkgate.service" 2>&1) ||
        grep --quiet checkgate.service <<<"$said"; then
        printf '%s\n' "$said" >&2
        return 1
    fi
    systemd-analyze security --offline=yes --threshold="$exposure_max" --no-pager "$work/checkgate.service" | tail -n 1
}

install_tools
step "Containerfile: hadolint, and the libraries that the image has"
check_containerfile
step "manifests: kubernetes-validate $kubernetes, what they promise, and checkgate check"
check_manifests
step "alone: the program with its libraries and nothing else, as user 65532"
check_alone
step "pod: who reaches what in a network namespace of its own"
check_pod
step "unit: systemd-analyze verify and security, and checkgate check"
check_unit
echo "deploy: everything holds"
