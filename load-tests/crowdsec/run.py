"""What run.sh runs inside of its namespaces. See there."""

import argparse
import contextlib
import http.client
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PATIENCE = 30.0
LISTEN, ADMIN, SERVE, UPSTREAM, LAPI = 18765, 18766, 18089, 18000, 18080
FIREWALL_KEY = "the-key-of-the-firewall-bouncer"
CUSTOM_KEY = "the-key-of-the-custom-bouncer"
CHECKGATE_KEY = "the-key-of-checkgate-at-crowdsec"
MACHINE_PASSWORD = "the-password-of-checkgate-at-crowdsec"
BANNED_HERE, BANNED_THERE, NETWORK = "203.0.113.7", "203.0.113.9", "2001:db8:1:2::/64"


class Failed(Exception):
    """Something does not hold."""


def told(text):
    print(text, flush=True)


def until(what, holds, patience=PATIENCE):
    """Waits until `holds` gives something true, and gives that and how long it took."""
    begun = time.monotonic()
    while True:
        found = holds()
        took = time.monotonic() - begun
        if found:
            told(f"{what}: {took:.2f} s")
            return found
        if took > patience:
            raise Failed(f"{what}: not within {patience:.0f} s")
        time.sleep(0.05)


def run(*arguments, check=True):
    done = subprocess.run([str(one) for one in arguments], capture_output=True, text=True, timeout=60)
    if check and done.returncode != 0:
        raise Failed(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout


class Model(http.server.BaseHTTPRequestHandler):
    """A model server that answers everything alike."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def start(scratch, name, *arguments, environment=None):
    log = open(scratch / f"{name}.log", "wb")
    everything = dict(os.environ, **(environment or {}))
    return subprocess.Popen([str(one) for one in arguments], stdout=log, stderr=log, env=everything)


def ask(port, path, headers=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def answers(port, path):
    with contextlib.suppress(OSError):
        return ask(port, path)[0] > 0
    return False


class House:
    """All parts, in a folder of their own."""

    def __init__(self, binary, scratch):
        self.binary, self.scratch = binary, scratch
        self.state = scratch / "state"

    def checkgate(self):
        for key in [FIREWALL_KEY, CUSTOM_KEY, CHECKGATE_KEY]:
            (self.scratch / key).write_text(key)
        file = self.scratch / "checkgate.yaml"
        file.write_text(f"""
listen: 127.0.0.1:{LISTEN}
upstream: http://127.0.0.1:{UPSTREAM}
mode: enforce
decisions: {{scope: everywhere}}
state: {self.state}
findings: {self.scratch}/findings.jsonl
admin: {{listen: "127.0.0.1:{ADMIN}"}}
clients: {{identity: ip, trusted_proxies: [127.0.0.1]}}
crowdsec:
  serve:
    listen: 127.0.0.1:{SERVE}
    bouncers:
      - {{name: firewall, key: {{file: {FIREWALL_KEY}}}}}
      - {{name: custom, key: {{file: {CUSTOM_KEY}}}}}
  pull:
    # Its own bans come back otherwise.
    - {{name: local, url: "http://127.0.0.1:{LAPI}/", key: {{file: {CHECKGATE_KEY}}}, every: 500ms, origins: [cscli]}}
sinks:
  - name: crowdsec
    batch: {{wait: 0s}}
    crowdsec: {{url: "http://127.0.0.1:{LAPI}/", machine: checkgate, password: "${{CROWDSEC_PASSWORD}}"}}
""")
        start(self.scratch, "checkgate", self.binary, "run", "-c", file,
              environment={"CROWDSEC_PASSWORD": MACHINE_PASSWORD})
        until("checkgate is ready", lambda: answers(ADMIN, "/readyz") and ask(ADMIN, "/readyz")[0] == 200)

    def crowdsec(self):
        """A Local API without an agent and without a central service."""
        data = self.scratch / "crowdsec"
        data.mkdir()
        for name in ("profiles.yaml", "simulation.yaml"):
            shutil.copy(f"/etc/crowdsec/{name}", data)
        (data / "acquis.yaml").write_text("")
        (data / "console.yaml").write_text("")
        self.config = data / "config.yaml"
        self.config.write_text(f"""
common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: .}}
config_paths:
  config_dir: {data}
  data_dir: {data}
  simulation_path: {data}/simulation.yaml
  hub_dir: /var/lib/crowdsec/hub/
  index_path: /var/lib/crowdsec/hub/.index.json
crowdsec_service: {{acquisition_path: {data}/acquis.yaml, parser_routines: 1}}
cscli: {{output: json}}
db_config: {{log_level: info, type: sqlite, db_path: {data}/crowdsec.db}}
api:
  client: {{insecure_skip_verify: false, credentials_path: {data}/credentials.yaml}}
  server:
    log_level: info
    listen_uri: 127.0.0.1:{LAPI}
    profiles_path: {data}/profiles.yaml
    console_path: {data}/console.yaml
prometheus: {{enabled: false}}
""")
        self.cscli("machines", "add", "local", "--password", "the-password-of-cscli", "--file", data / "credentials.yaml")
        (data / "credentials.yaml").write_text(
            f"url: http://127.0.0.1:{LAPI}\nlogin: local\npassword: the-password-of-cscli\n")
        self.cscli("bouncers", "add", "checkgate", "--key", CHECKGATE_KEY)
        self.cscli("machines", "add", "checkgate", "--password", MACHINE_PASSWORD, "--file", data / "unused.yaml")
        start(self.scratch, "crowdsec", "crowdsec", "-c", self.config, "-no-cs")
        until("CrowdSec answers", lambda: answers(LAPI, "/health"))

    def cscli(self, *arguments):
        return run("cscli", "-c", self.config, *arguments)

    def bouncers(self):
        common = f"""
piddir: {self.scratch}
pid_dir: {self.scratch}
update_frequency: 1s
daemonize: false
log_mode: stdout
log_level: info
api_url: http://127.0.0.1:{SERVE}/
prometheus: {{enabled: false}}
"""
        firewall = self.scratch / "firewall.yaml"
        firewall.write_text(common + f"""
mode: nftables
api_key: {FIREWALL_KEY}
disable_ipv6: false
deny_action: DROP
supported_decisions_types: [ban]
nftables:
  ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}}
  ipv6: {{enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}}
""")
        self.calls = self.scratch / "calls"
        script = self.scratch / "script"
        script.write_text(f'#!/bin/sh\necho "$1 $2 $3 $4" >>{self.calls}\n')
        script.chmod(0o755)
        custom = self.scratch / "custom.yaml"
        custom.write_text(common + f"""
bin_path: {script}
feed_via_stdin: false
api_key: {CUSTOM_KEY}
cache_retention_duration: 10s
""")
        start(self.scratch, "firewall", "crowdsec-firewall-bouncer", "-c", firewall)
        start(self.scratch, "custom", "crowdsec-custom-bouncer", "-c", custom)
        until("the firewall bouncer made its table", lambda: "crowdsec-blacklists" in nft())

    def operator(self, *arguments, check=True):
        return run(self.binary, *arguments, "--admin", f"127.0.0.1:{ADMIN}", "--state", self.state, check=check)

    def called(self):
        return self.calls.read_text() if self.calls.exists() else ""

    def status(self, client):
        return ask(LISTEN, "/v2/models/prices", {"x-forwarded-for": client})[0]


def nft():
    return run("nft", "list", "ruleset", check=False)


def enforced_elsewhere(house):
    """What checkgate decides is enforced by real bouncers, and let go when it is lifted."""
    decided = json.loads(house.operator(
        "decisions", "add", BANNED_HERE, "--for", "59m", "--why", "a test", "--json"))
    rules = until("the ban is in the firewall's set", lambda: BANNED_HERE in nft() and nft())
    if "timeout 59m" not in rules and "timeout 58m59s" not in rules:
        raise Failed(f"the element has another time-out:\n{rules}")
    if "drop" not in rules:
        raise Failed(f"nothing is dropped:\n{rules}")
    until("the custom bouncer calls its script", lambda: f"add {BANNED_HERE} " in house.called())
    network = json.loads(house.operator(
        "decisions", "add", NETWORK, "--for", "1h", "--why", "a test", "--json"))
    until("the custom bouncer is told of a network", lambda: f"add {NETWORK} " in house.called())
    if "2001:db8" in nft():
        raise Failed(f"the firewall was told of a network that it cannot hold:\n{nft()}")
    for one in (decided, network):
        house.operator("decisions", "lift", one["id"], "--why", "a test")
    until("the firewall's set is empty again", lambda: BANNED_HERE not in nft())
    until("the custom bouncer calls its script again", lambda: f"del {BANNED_HERE} " in house.called())
    until("and for the network", lambda: f"del {NETWORK} " in house.called())
    told(house.called().strip())


def taken_from_elsewhere(house):
    """What a real CrowdSec decides is enforced by checkgate, and lifted with it."""
    if house.status(BANNED_THERE) != 200:
        raise Failed(f"{BANNED_THERE} is refused before anybody decided")
    house.cscli("decisions", "add", "--ip", BANNED_THERE, "--duration", "2h", "--reason", "manual")
    house.cscli("decisions", "add", "--range", "198.51.100.0/24", "--duration", "2h", "--reason", "manual")
    until("CrowdSec's ban is enforced", lambda: house.status(BANNED_THERE) == 403)
    listed = house.operator("decisions", "list")
    if "crowdsec:local" not in listed:
        raise Failed(f"nobody says whose decision it is:\n{listed}")
    if BANNED_THERE in nft():
        raise Failed("what came from a source was told on")
    metrics = ask(ADMIN, "/metrics")[1]
    if 'checkgate_crowdsec_source_not_taken_total{reason="range",source="local"} ' not in metrics:
        raise Failed("the network that no gate can hold is not counted")
    house.cscli("decisions", "delete", "--ip", BANNED_THERE)
    until("its lift is, too", lambda: house.status(BANNED_THERE) == 200)


def told_to_crowdsec(house):
    """What checkgate decides stands in a real CrowdSec, and ends there with its lift alone."""
    def listed():
        # Without --all, cscli 1.4 shows only what CrowdSec or cscli decided.
        alerts = json.loads(house.cscli("decisions", "list", "--all", "--ip", BANNED_HERE)) or []
        return [(one["origin"], one["scenario"]) for alert in alerts for one in alert["decisions"]]

    house.cscli("decisions", "add", "--ip", BANNED_HERE, "--duration", "2h", "--reason", "manual")
    decided = json.loads(house.operator(
        "decisions", "add", BANNED_HERE, "--for", "1h", "--why", "a test", "--json"))
    until("the decision is on CrowdSec's list", lambda: ("checkgate", "checkgate/operator") in listed())
    alerts = json.loads(house.cscli("alerts", "list", "--all", "--ip", BANNED_HERE))
    if not any(decided["id"] in alert["message"] for alert in alerts):
        raise Failed(f"no alert names the decision: {alerts}")
    house.operator("decisions", "extend", decided["id"], "--for", "3h", "--why", "a test")
    time.sleep(2)
    if listed().count(("checkgate", "checkgate/operator")) != 1:
        raise Failed(f"an extended decision does not stand once: {listed()}")
    house.operator("decisions", "lift", decided["id"], "--why", "a test")
    until("it is lifted there", lambda: ("checkgate", "checkgate/operator") not in listed())
    if ("cscli", "manual") not in listed():
        raise Failed(f"what others decided on the client was lifted as well: {listed()}")
    house.cscli("decisions", "delete", "--ip", BANNED_HERE)


def keep_stream(house, file):
    """Writes down what CrowdSec answers to a bouncer that starts."""
    house.cscli("decisions", "add", "--ip", "192.0.2.77", "--duration", "4h", "--reason", "manual 'ban'")
    house.cscli("decisions", "add", "--ip", "2001:db8::77", "--duration", "4h", "--reason", "manual")
    house.cscli("decisions", "add", "--range", "198.51.100.0/24", "--duration", "4h", "--reason", "manual")
    path = "/v1/decisions/stream?startup=true&scopes=ip,range"
    _, body = ask(LAPI, path, {"x-api-key": CHECKGATE_KEY})
    Path(file).write_text(json.dumps(json.loads(body), indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--keep-stream", help="write CrowdSec's own answer to this file")
    arguments = parser.parse_args()
    run("ip", "link", "set", "lo", "up")
    scratch = Path(tempfile.mkdtemp(prefix="checkgate-crowdsec-"))
    model = http.server.ThreadingHTTPServer(("127.0.0.1", UPSTREAM), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    house = House(arguments.binary.resolve(), scratch)
    try:
        house.crowdsec()
        house.checkgate()
        house.bouncers()
        enforced_elsewhere(house)
        taken_from_elsewhere(house)
        told_to_crowdsec(house)
        if arguments.keep_stream:
            keep_stream(house, arguments.keep_stream)
    except (Failed, subprocess.TimeoutExpired) as failed:
        told(house.operator("sinks", "list", check=False))
        told(house.cscli("decisions", "list", "--all"))
        for log in sorted(scratch.glob("*.log")):
            told(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        told(f"FAILED: {failed}")
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    told("all of it holds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
