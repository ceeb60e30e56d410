"""What run.sh runs inside of its namespaces. See there."""

import argparse
import base64
import datetime
import http.client
import http.server
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "real-parts"), str(HERE.parent / "integrations" / "vendors")]

from harness import answers  # noqa: E402
from receivers import Hec  # noqa: E402

# A busy machine takes this long over what is a matter of a second.
PATIENCE = 120.0
# The debug binary on a busy machine answers a search of hundreds of rows within this.
ATTACK_PATIENCE = 300.0
LISTEN, ADMIN, LAPI, MODEL, SYSLOG = 18765, 18766, 18089, 18000, 16514
# The address of a client, and that of the gate as this client sees it.
ATTACKER, HONEST = ("203.0.113.66", "203.0.113.1"), ("198.51.100.20", "198.51.100.1")
WHY = "an authorised test, says ticket 4711"
NAMES = {"finding": "finding", "decision": "decision", "lifted": "lift"}
BEGUN = time.monotonic()

CONFIG = """
listen: 0.0.0.0:{LISTEN}
upstream: http://127.0.0.1:{MODEL}
mode: enforce
decisions: {{scope: everywhere}}
state: {folder}/state
findings: {folder}/findings.jsonl
admin: {{listen: "127.0.0.1:{ADMIN}"}}
clients: {{identity: ip}}
crowdsec:
  serve:
    listen: 127.0.0.1:{LAPI}
    bouncers: [{{name: firewall, key: {{file: {folder}/bouncer-key}}}}]
inbound:
  - name: soar
    shape: webhook
    secrets: [{{file: {folder}/soar-secret}}]
    actions: [lift]
sinks:
  - name: syslog
    batch: {{wait: 0s}}
    syslog: {{address: "localhost:{SYSLOG}", format: json, hostname: gate-1,
             connection: {{ca_file: {folder}/authority.pem}}}}
  - name: splunk
    batch: {{wait: 0s}}
    splunk_hec: {{url: "{hec}", token: {{file: {folder}/hec-token}}, index: main, acknowledge: true,
                 connection: {{ca_file: {folder}/authority.pem}}}}
  - name: webhook
    batch: {{wait: 0s}}
    webhook: {{url: "http://127.0.0.1:{hook}/checkgate", secrets: [{{file: {folder}/hook-secret}}]}}
"""

RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriverCAFile="{folder}/authority.pem"
       defaultNetstreamDriverCertFile="{folder}/own.pem" defaultNetstreamDriverKeyFile="{folder}/own.key")
module(load="imtcp")
template(name="parsed" type="string" string="%jsonmesg%\\n")
ruleset(name="all") {{ action(type="omfile" file="{folder}/rsyslog.jsonl" template="parsed") }}
input(type="imtcp" address="127.0.0.1" port="{SYSLOG}" ruleset="all" streamDriver.name="gtls" streamDriver.mode="1"
      streamDriver.authMode="anon")
"""

BOUNCER = """
mode: nftables
piddir: {folder}
pid_dir: {folder}
update_frequency: 1s
daemonize: false
log_mode: stdout
log_level: info
api_url: http://127.0.0.1:{LAPI}/
api_key: {key}
prometheus: {{enabled: false}}
disable_ipv6: true
deny_action: DROP
supported_decisions_types: [ban]
nftables:
  ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}}
  ipv6: {{enabled: false}}
"""


class Failed(Exception):
    """Something does not hold."""


def told(text):
    print(f"[{time.monotonic() - BEGUN:6.1f} s] {text}", flush=True)


def chapter(text):
    print(f"\n[{time.monotonic() - BEGUN:6.1f} s] == {text}", flush=True)


def must(holds, text):
    if not holds:
        raise Failed(text)
    told(f"ok  {text}")


def until(what, holds, patience=PATIENCE):
    """Waits until `holds` gives something true, tells of it, and gives that."""
    begun = time.monotonic()
    while not (found := holds()):
        if time.monotonic() - begun > patience:
            raise Failed(f"{what}: not within {patience:.0f} s")
        time.sleep(0.05)
    told(f"ok  {what} (after {time.monotonic() - begun:.2f} s)")
    return found


def goes_on(process):
    if process.poll() is not None:
        raise Failed(f"{process.args[0]} ended with {process.returncode}")
    return True


def run(*arguments, check=True, patience=PATIENCE):
    done = subprocess.run([str(one) for one in arguments], capture_output=True, text=True, timeout=patience)
    if check and done.returncode != 0:
        raise Failed(f"{arguments}: {done.stdout}{done.stderr}")
    return done.stdout


def lines_of(file):
    """The JSON lines of a file, without one that is being written."""
    text = file.read_text(errors="replace") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line.strip()]


def decision_of(event):
    """The id of the decision that an event is about."""
    record = event.get("record") or {}
    # The ledger keeps a record as it was written.
    record = json.loads(record) if isinstance(record, str) else record
    of_itself = event.get("id") if str(event.get("id")).startswith("d-") else None
    return of_itself or record.get("decision_id")


def certificate(folder):
    """An authority, and a certificate of localhost by it."""
    def openssl(*arguments):
        run("openssl", *arguments)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority, key, request = folder / "authority.pem", folder / "authority.key", folder / "request.pem"
    openssl("req", "-x509", *curve, "-keyout", key, "-out", authority, "-days", "2", "-subj", "/CN=authority")
    openssl("req", *curve, "-keyout", folder / "own.key", "-out", request, "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-CAcreateserial",
            "-out", folder / "own.pem", "-days", "2", "-extfile", folder / "names")
    return folder / "own.pem", folder / "own.key"


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes what the library of Standard Webhooks verifies, and nothing else."""

    protocol_version = "HTTP/1.1"
    secret, got, refused = None, [], []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = Webhook(Hook.secret).verify(body, {name.lower(): value for name, value in self.headers.items()})
            Hook.got.append(event["data"])
            status = 204
        except WebhookVerificationError as error:
            Hook.refused.append(str(error))
            status = 401
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def signing_secret():
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class House:
    """All parts, in a folder and in namespaces of their own."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.secrets = {"hec-token": secrets.token_hex(16), "bouncer-key": secrets.token_hex(32)}
        for name in ("hook-secret", "soar-secret"):
            self.secrets[name] = signing_secret()
        for name, secret in self.secrets.items():
            (folder / name).write_text(secret)
        Hook.secret = self.secrets["hook-secret"]

    def start(self, name, *arguments):
        log = (self.folder / f"{name}.log").open("wb")
        return subprocess.Popen([str(one) for one in arguments], stdout=log, stderr=log)

    def write(self, name, text, **more):
        ports = {"LISTEN": LISTEN, "ADMIN": ADMIN, "LAPI": LAPI, "MODEL": MODEL, "SYSLOG": SYSLOG}
        (self.folder / name).write_text(text.format(folder=self.folder, **ports, **more))
        return self.folder / name

    def networks(self):
        """A namespace with an address for each client, and a cable from it to the gate."""
        run("ip", "link", "set", "lo", "up")
        # What is made here stays here: nothing of it is seen outside of this mount namespace.
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "namespaces", "/run/netns")
        for name, (client, gate) in [("attacker", ATTACKER), ("honest", HONEST)]:
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "address", "add", f"{gate}/24", "dev", f"to-{name}")
            run("ip", "link", "set", f"to-{name}", "up")
            for order in (["address", "add", f"{client}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
                run("ip", "-n", name, *order)
        told(f"the attacker is {ATTACKER[0]}, the honest client {HONEST[0]}, each in a network namespace of its own")

    def receivers(self):
        files = certificate(self.folder)
        self.hec = Hec(files, self.secrets["hec-token"], acknowledges=True)
        self.hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=self.hook.serve_forever, daemon=True).start()
        file = self.write("rsyslog.conf", RSYSLOG)
        self.start("rsyslog", "rsyslogd", "-n", "-f", file, "-i", self.folder / "rsyslog.pid")
        told("rsyslog listens over TLS, beside it a receiver as strict as Splunk's and one that verifies webhooks")

    def gate(self):
        self.start("model", sys.executable, "-W", "ignore", HERE.parent / "real-parts" / "model_server.py", MODEL)
        until("scikit-learn has trained its models and serves them", lambda: answers(MODEL, "/v2/health/ready"))
        file = self.write("checkgate.yaml", CONFIG, hec=self.hec.url, hook=self.hook.server_address[1])
        checkgate = self.start("checkgate", self.binary, "run", "-c", file)
        until("checkgate stands in front of it and enforces",
              lambda: goes_on(checkgate) and answers(ADMIN, "/readyz"))

    def firewall(self):
        file = self.write("bouncer.yaml", BOUNCER, key=self.secrets["bouncer-key"])
        self.start("bouncer", "crowdsec-firewall-bouncer", "-c", file)
        until("CrowdSec's firewall bouncer pulls from checkgate and made its table", lambda: firewall_set() is not None)

    def client(self, name, what):
        gate = {"attacker": ATTACKER, "honest": HONEST}[name][1]
        python = [sys.executable, "-W", "ignore", HERE / "client.py"]
        return ["nsenter", f"--net=/run/netns/{name}", *python, what, gate, LISTEN]

    def attacker_asks(self):
        return json.loads(run(*self.client("attacker", "once")))["became"]

    def honest(self):
        """What the honest client has been answered so far."""
        counts = [line for line in lines_of(self.folder / "honest.log") if "served" in line]
        return counts[-1] if counts else {"served": 0, "refused": 0}

    def heard(self):
        """Receiver to the events that it has, each as checkgate wrote it."""
        syslog = [json.loads(line["msg"].strip()) for line in lines_of(self.folder / "rsyslog.jsonl")]
        with self.hec.lock:
            hec = [one["event"] for one in self.hec.got]
        return {"rsyslog": syslog, "Splunk's stand-in": hec, "the webhook": list(Hook.got)}

    def has_delivered(self):
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN, timeout=10)
        connection.request("GET", "/v1/sinks")
        sinks = json.loads(connection.getresponse().read())["sinks"]
        return all(sink["state"] == "works" and sink["backlog_entries"] == 0 for sink in sinks)

    def audit(self, *arguments):
        return run(self.binary, "audit", *arguments, "--state", self.folder / "state")


def firewall_set():
    """Address to its element of the set that the bouncer keeps; nothing where there is no set."""
    try:
        listed = json.loads(run("nft", "--json", "list", "set", "ip", "crowdsec", "crowdsec-blacklists"))
    except Failed:
        return None
    elements = next(one["set"] for one in listed["nftables"] if "set" in one).get("elem", [])
    return {one["elem"]["val"]: one["elem"] for one in elements if isinstance(one, dict)}


def hears(house, kind, decision):
    """Waits until every receiver has an event of this kind about this decision, and gives these events."""
    def found(name):
        events = house.heard()[name]
        return next((one for one in events if one["kind"] == kind and decision_of(one) == decision), None)

    return [until(f"{name} has the {NAMES[kind]} with {decision}", lambda: found(name)) for name in house.heard()]


def still_honest(house):
    """The honest client was asked more since, and refused never."""
    before = house.honest()["served"]
    until("the honest client goes on being served", lambda: house.honest()["served"] > before)
    counts = house.honest()
    must(counts["refused"] == 0, f"the honest client: {counts['served']} answers, {counts['refused']} refused")


def attack(house):
    """The attack, to its end. Gives the decision that ended it."""
    chapter("The attack: ZOO of adversarial-robustness-toolbox searches the change that makes the digits model err")
    must(house.attacker_asks() == "200", "before anything is known of it, the attacker is answered")
    try:
        ended = json.loads(run(*house.client("attacker", "attack"), patience=ATTACK_PATIENCE))
    except subprocess.TimeoutExpired:
        raise Failed(f"the attack goes on after {ATTACK_PATIENCE:.0f} s, and nothing refuses it") from None
    # Once in a while the bouncer asks between the block and the attacker's next question.
    firewall_first = ended["became"] == "cut off" and ATTACKER[0] in firewall_set()
    must(ended["became"] == "refused with 403" or firewall_first,
         f"after {ended['rows']} answered questions it is {ended['became']}")

    def decided():
        records = lines_of(house.folder / "findings.jsonl")
        return next((one for one in records if one["kind"] == "decision" and one["action"] == "block"), None)

    block = until("the decision is written down", decided)
    must(block["client"] == ATTACKER[0], f"it is decision {block['decision_id']} on {block['client']}")
    told(f"    {block['explanation']}")
    return block


def reaches_everybody(house, decision):
    chapter("The security team's programs hear of it, all under the same decision id")
    for kind in ("finding", "decision"):
        hears(house, kind, decision)


def stands_at_the_firewall(house, block):
    chapter("The firewall holds the attacker's address")
    element = until(f"{ATTACKER[0]} is in the set of nftables", lambda: (firewall_set() or {}).get(ATTACKER[0]))
    left = block["until"] - time.time()
    must(abs(element["expires"] - left) < 5,
         f"its time-out ends it in {element['expires']} s, the decision in {left:.0f} s")
    must(set(firewall_set()) == {ATTACKER[0]}, "nobody else is in the set")
    must(house.attacker_asks() == "no connection", "the attacker no longer comes through to checkgate at all")
    still_honest(house)


def soar_asks(decision, secret):
    """What a SOAR sends that wants a decision lifted, signed by the library. Gives status and body of the answer."""
    body = json.dumps({"type": "decision.lift", "data": {"action": "lift", "decision_id": decision, "why": WHY}})
    now = datetime.datetime.now(datetime.timezone.utc)
    message = "msg_" + secrets.token_hex(8)
    headers = {
        "content-type": "application/json", "webhook-id": message, "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message, now, body),
    }
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN, timeout=10)
    connection.request("POST", "/v1/inbound/soar", body, headers)
    response = connection.getresponse()
    return response.status, response.read().decode().strip()


def lifted_by_soar(house):
    chapter("The SOAR lifts the decision that the webhook told it of")
    decision = decision_of(next(one for one in Hook.got if one["kind"] == "decision"))
    status, _ = soar_asks(decision, signing_secret())
    must(status == 401 and ATTACKER[0] in firewall_set(),
         f"a message that somebody else signed lifts nothing ({status})")
    status, said = soar_asks(decision, house.secrets["soar-secret"])
    must(status == 200, f"the SOAR's own is answered with {status}: {said}")
    until(f"{ATTACKER[0]} has left the set", lambda: ATTACKER[0] not in firewall_set())
    must(house.attacker_asks() == "200", "the attacker's next question is answered again")
    lifts = hears(house, "lifted", decision)
    must(all(one["who"] == "inbound:soar" and one["why"] == WHY for one in lifts), "each says who lifted it, and why")
    still_honest(house)


def told_by_the_ledger(house, decision):
    chapter("The ledger tells the story")
    print(house.audit("show").rstrip(), flush=True)
    entries = [json.loads(line) for line in house.audit("show", "--json").splitlines()]
    # What requests met the decision is told now and then, and is no part of the story.
    story = [(one["what"]["kind"], one["by"]) for one in entries
             if decision_of(one["what"]) == decision and one["what"]["kind"] in NAMES]
    must([kind for kind, _ in story] == list(NAMES),
         "finding, decision and lift stand in it, once each and in this order")
    by = story[-1][1]
    must((by["who"], by["why"]) == ("inbound:soar", WHY), f"the lift is by {by['who']}, because of {by['why']!r}")
    must(all(HONEST[0] not in json.dumps(one) for one in entries), "nothing in it is about the honest client")
    # It exits with 1 where the chain is broken, and then this run has failed.
    told(f"ok  {house.audit('verify').strip().splitlines()[-1]}, says checkgate audit verify")


def parts(house):
    chapter("The parts")
    house.networks()
    house.receivers()
    house.gate()
    house.firewall()
    asks = house.start("honest", *house.client("honest", "honest"))
    until("an honest client asks, and will until the end", lambda: goes_on(asks) and house.honest()["served"] > 0)


def story(house):
    parts(house)
    block = attack(house)
    reaches_everybody(house, block["decision_id"])
    stands_at_the_firewall(house, block)
    lifted_by_soar(house)
    told_by_the_ledger(house, block["decision_id"])
    chapter("The end")
    until("every sink has delivered all that happened", house.has_delivered)
    must(not Hook.refused, f"all {len(Hook.got)} webhooks bore a signature that holds")
    must(not house.hec.refused and not house.hec.complaints and not house.hec.pending,
         "Splunk's stand-in objected to nothing and acknowledged all")
    still_honest(house)


def keep(house):
    """Leaves all of it up to look at."""
    told("everything stays up; Enter ends it. In another terminal this gives a shell among its parts:")
    print(f"    nsenter --net --pid --mount --target $(pgrep -P {os.environ.get('LOOP_PID', 'PID')})")
    print("and there:")
    print("    nft list ruleset")
    print(f"    less {house.folder}/rsyslog.jsonl")
    print(f"    {house.binary} decisions list --admin 127.0.0.1:{ADMIN} --state {house.folder}/state", flush=True)
    sys.stdin.readline()


def judged(house):
    """Tells the story, and what parts said where it breaks off. Gives the exit code."""
    try:
        story(house)
    except (Failed, subprocess.TimeoutExpired, OSError) as failed:
        for log in sorted(house.folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
        told(f"FAILED: {failed}")
        return 1
    told("all of it holds")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--keep", action="store_true", help="leave everything up at the end until Enter")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkgate-loop-"))
    house = House(options.binary.resolve(), folder)
    try:
        code = judged(house)
        if options.keep:
            keep(house)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
