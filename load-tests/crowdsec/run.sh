#!/usr/bin/env bash
# checkgate between a real CrowdSec, its firewall bouncer and its custom bouncer (Debian's packages), all of it in a
# network namespace of its own: what is banned on one side is enforced on the other, in a real nftables set among others.
# Exit code 1 where anything does not hold. It needs root and Debian or Ubuntu. PROFILE=release takes target/release.
set -euo pipefail
cd "$(dirname "$0")"

packages=()
for pair in crowdsec:crowdsec crowdsec-firewall-bouncer:crowdsec-firewall-bouncer \
    crowdsec-custom-bouncer:crowdsec-custom-bouncer nft:nftables ip:iproute2 unshare:util-linux; do
    command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
if ((${#packages[@]})); then
    # Without this file the package's first configuration asks a central service, and fails where that is out of reach.
    mkdir -p /etc/crowdsec
    [[ -s /etc/crowdsec/online_api_credentials.yaml ]] ||
        echo '# No central service is asked.' >/etc/crowdsec/online_api_credentials.yaml
    apt-get update --quiet=2
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${packages[@]}"
fi

if ! unshare --net true 2>/dev/null; then
    echo "network namespaces are not permitted here, so that no bouncer can have a firewall of its own" >&2
    [[ ${CI:-} == true ]] && exit 1
    exit 0
fi
# The namespace of processes ends everything with its first one, whatever became of it.
exec unshare --net --pid --fork --kill-child --mount-proc -- \
    python3 run.py --binary "../../target/${PROFILE:-debug}/checkgate" "$@"
