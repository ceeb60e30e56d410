#!/usr/bin/env bash
# The whole loop, to run and to watch: an attack by adversarial-robustness-toolbox on a scikit-learn model is blocked by
# checkgate; rsyslog, a strict stand-in for Splunk's collector and a signed webhook hear of it; a real firewall holds the
# attacker's address; a message as a SOAR sends it lifts the block; the ledger tells all of it.
# Exit code 1 where anything does not hold. `--keep` leaves everything up at the end until Enter. It needs root and Debian
# or Ubuntu. PROFILE=release takes target/release, CHECKGATE_BINARY another binary.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
for pair in crowdsec-firewall-bouncer:crowdsec-firewall-bouncer rsyslogd:rsyslog openssl:openssl nft:nftables \
    ip:iproute2 unshare:util-linux nsenter:util-linux; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[[ -n $(find /usr/lib -name lmnsd_gtls.so -print -quit) ]] || missing+=(rsyslog-gnutls)
if ((${#missing[@]})); then
    apt-get update --quiet=2
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
fi
if ! unshare --net --mount true 2>/dev/null; then
    echo "network namespaces are not permitted here, so that neither attacker nor firewall can be told apart" >&2
    [[ ${CI:-} == true ]] && exit 1
    exit 0
fi
../real-parts/venv.sh

binary="../../target/${PROFILE:-debug}/checkgate"
if [[ -n ${CHECKGATE_BINARY:-} ]]; then
    binary=$(cd "$OLDPWD" && realpath "$CHECKGATE_BINARY")
fi
# Threads that spin make training last minutes where the machine has other work.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# What --keep names: `exec` keeps the number of this process.
export LOOP_PID=$$
# The namespace of processes ends everything with its first one, whatever became of it.
exec unshare --net --pid --fork --kill-child --mount-proc -- \
    .venv/bin/python -W ignore run.py --binary "$binary" "$@"
