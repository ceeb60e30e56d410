"""Sinks of the real binary against real counterparts, field by field.

One checkgate has a sink for each form. A client sweeps a model and is blocked, an operator with a hostile way of giving
reasons lifts and changes things, and everything that arrives anywhere must say what the webhook said of the same event.
"""

import argparse
import http.client
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "real-parts"))

from harness import Proxy, Tally, wait_until  # noqa: E402

SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
# What an operator may write as a reason, and must never leave its place.
REASONS = [
    "plain",
    "two\nlines\r\nand a tab\t.",
    'a|b=c\\d]e"f [x="y"] CEF:0|a|b|',
    "\u001b[2J\u202etxt.exe\u0000\u2028",
    "Zürich 😀 " + "x" * 480,
    # In the manner of the Big List of Naughty Strings, all of which the unit tests send.
    "".join(map(chr, range(1, 32))),
    "".join(map(chr, range(127, 160))),
    "\xad\u0600\u061c\u070f\u180e\u200b\u200c\u200d\u200e\u2028\u2029\u2060\u2066\u206a\ufeff\ufff9\U0001d173",
    "\U000e0001\U000e0041\U000e0042\U000e007f",
    "\ufffe\uffff\ue000\U0010fffd",
    "\u0085\u2002\u3000 blanks at both ends \u00a0",
    " ",
    "\\u001b[2J and \\u005c and \\ud83d",
    "ends in a backslash\\",
    "\\\\n\\r\\t",
    "a=b cs1=c msg=d suser=e",
    "a\tb=c\td=e",
    '"] <13>1 - - - - - - [checkgate@32473 id="x"]',
    "<13>1 2023-11-14T22:13:20Z a b - - - c",
    "12 <13>1 - a",
    "CEF:0|a|b|1|2|3|4|cs1=x\nLEEF:2.0|a|b|1|2|x09|",
    '","kind":"test","x":"',
    "{{7*7}}${jndi:ldap://a/b}$(id)`id`%n%s%x",
    "'; DROP TABLE clients; -- ",
    "=cmd|' /C calc'!A0",
    "</td><script>alert('x')</script><![CDATA[&amp;",
    "../../etc/passwd\x00.png",
    "%0d%0aSet-Cookie: a=b",
    "Z\u0351\u036b\u0343\u036a\u0302a\u030b\u035bl\u0348\u0353g\u0337o\u0321",
    "\u0645\u064f\u0646\u064e\u0627\u0642\u064e\u0634\u064e\u0629\u064f, \u05d1\u05e8\u05d0\u05e9\u05d9\u05ea test",
    "田中さんにあげて下さい 𠜎𠜱 ﾟ･✿ヾ╲(｡◕‿◕｡)╱✿･ﾟ",
    "🏳0🌈\ufe0f👨\u200d👩\u200d👧",
    "\u0c1c\u0c4d\u0c1e\u200c\u0c3e",
    "undefined", "NaN", "0x0", "-1E+02", "1/0",
]

CONFIG = """
upstream: "http://127.0.0.1:{model}"
mode: enforce
clients: {{identity: ip}}
models: [{{name: prices}}]
sinks:
  - name: hooks
    batch: {{wait: 0s}}
    webhook: {{url: "http://127.0.0.1:{hooks}/hook?a=b", secrets: [{{file: secret-0}}, {{file: secret-1}}]}}
  - name: structured
    cloudevents: {{url: "http://127.0.0.1:{events}/structured", token: {{file: secret-0}}}}
  - name: binary
    cloudevents: {{url: "http://127.0.0.1:{events}/binary", mode: binary, source: "/gates/1"}}
  - name: udp
    syslog: {{address: "127.0.0.1:{udp}", transport: udp, format: json, hostname: gate-1}}
  - name: tcp
    syslog: {{address: "127.0.0.1:{tcp}", transport: tcp, format: cef, hostname: gate-1}}
  - name: lines
    syslog: {{address: "127.0.0.1:{tcp}", transport: tcp, framing: lines, format: leef, hostname: gate-2}}
  - name: tls
    syslog: {{address: "localhost:{tls}", format: json, hostname: gate-3, connection: {{ca_file: authority.pem}}}}
"""

RSYSLOG = """
global(workDirectory="{folder}" maxMessageSize="64k" parser.escapeControlCharacterTab="off"
       defaultNetstreamDriverCAFile="{folder}/authority.pem" defaultNetstreamDriverCertFile="{folder}/server.pem"
       defaultNetstreamDriverKeyFile="{folder}/server.key")
module(load="imudp")
module(load="imtcp")
template(name="parsed" type="string" string="%jsonmesg%\\n")
ruleset(name="all") {{ action(type="omfile" file="{folder}/parsed.jsonl" template="parsed") }}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="all" streamDriver.name="gtls" streamDriver.mode="1"
      streamDriver.authMode="anon")
"""


class Prices(http.server.BaseHTTPRequestHandler):
    """A model of the Open Inference Protocol."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        output = {"name": "price", "shape": [1], "datatype": "FP64", "data": [100.0]}
        answer(self, json.dumps({"model_name": "prices", "outputs": [output]}).encode())

    def log_message(self, *_):
        pass


class Keeps(http.server.BaseHTTPRequestHandler):
    """Keeps every request: path, headers and body."""

    protocol_version = "HTTP/1.1"
    requests = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Keeps.requests.append((self.path, dict(self.headers.items()), body))
        answer(self, b"")

    def log_message(self, *_):
        pass


def answer(handler, body):
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def certificates(folder):
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "authority.key", "-out", "authority.pem", "-days", "2",
            "-subj", "/CN=authority", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
            "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "names")


def sweep(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, source_address=("127.0.4.7", 0))
    for step in range(40):
        row = [18.0 + step / 4, 12.0, 16000.0, 4.0, 90.0, 15000.0]
        question = {"inputs": [{"name": "x", "shape": [1, 6], "datatype": "FP64", "data": row}]}
        connection.request("POST", "/v2/models/prices/infer", json.dumps(question),
                           {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        if response.status == 403:
            return step
    return None


def operate(proxy, token):
    """Lifts the block and changes the never-block list, with every reason."""
    def ask(method, path):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port)
        connection.request(method, path, headers={"authorization": f"Bearer {token}"})
        response = connection.getresponse()
        text = response.read()
        assert response.status < 300, (path, response.status, text)
        return json.loads(text) if text else None

    decision = ask("GET", "/v1/decisions")["active"][0]["decision_id"]
    for number, reason in enumerate(REASONS):
        ask("PUT", f"/v1/never-block/198.51.100.{number}%2F32?why={urllib.parse.quote(reason)}")
    ask("DELETE", f"/v1/decisions/{decision}?why={urllib.parse.quote(REASONS[2])}")


def read_back(text):
    """A text as it was, where a form has no escapes of its own: each \\uXXXX is its UTF-16 unit, once, from left to right."""
    units = re.sub(r"\\u([0-9a-f]{4})", lambda at: chr(int(at.group(1), 16)), text)
    return units.encode("utf-16", "surrogatepass").decode("utf-16")


def plain(value, event):
    """A value as structured data, CEF and LEEF name it."""
    return {"id": event["event_id"], "decision": event.get("id") if str(event.get("id")).startswith("d-")
            else (event.get("record") or {}).get("decision_id")}.get(value, event.get(value))


def read_structured(text):
    """Structured data as RFC 5424 has it."""
    found = re.fullmatch(r'\[checkgate@32473((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")*)\]', text)
    if not found:
        return None
    pairs = re.findall(r' ([a-z]+)="((?:[^"\\\]]|\\["\\\]])*)"', found.group(1))
    return {name: re.sub(r'\\(["\\\]])', r"\1", value) for name, value in pairs}


def read_cef(text):
    head, rest = [], text
    for _ in range(7):
        part = re.match(r"((?:[^\\|]|\\[\\|])*)\|", rest)
        head.append(re.sub(r"\\([\\|])", r"\1", part.group(1)))
        rest = rest[part.end():]
    pairs = re.findall(r"(?:^| )([A-Za-z0-9]+)=((?:[^\\=]|\\[\\=nr])*?)(?= [A-Za-z0-9]+=|$)", rest)
    unescape = {"\\\\": "\\", "\\=": "=", "\\n": "\n", "\\r": "\r"}
    return head, {key: re.sub(r"\\[\\=nr]", lambda at: unescape[at.group()], value) for key, value in pairs}


def read_leef(text):
    *head, rest = text.split("|", 6)
    return head, dict(pair.split("=", 1) for pair in rest.split("\t"))


def check_webhooks(tally, requests):
    events = {}
    verified = forged = 0
    for path, headers, body in requests:
        assert path == "/hook?a=b", path
        lowered = {name.lower(): value for name, value in headers.items()}
        for secret in SECRETS:
            told = Webhook(secret).verify(body, lowered)
            verified += 1
            try:
                Webhook(secret).verify(body.replace(b"checkgate.", b"checkgate-"), lowered)
            except WebhookVerificationError:
                forged += 1
        assert told["data"]["event_id"] == lowered["webhook-id"]
        events[lowered["webhook-id"]] = told["data"]
    kinds = {event["kind"] for event in events.values()}
    tally.check(verified == 2 * len(requests), f"standardwebhooks verifies all of {len(requests)}, by either secret")
    tally.check(forged == verified, "and none with another body")
    for kind in ["finding", "decision", "lifted", "never_block"]:
        tally.check(kind in kinds, f"a {kind} arrived")
    return events


def check_cloudevents(tally, requests, events, path, source):
    wrong, seen = [], set()
    for _, headers, body in (request for request in requests if request[0] == path):
        # The library wants plain names.
        message = HTTPMessage({name.lower(): value for name, value in headers.items()}, body)
        event = from_http_event(message)
        told = event.get_data()
        told = json.loads(told) if isinstance(told, (bytes, str)) else told
        expected = events.get(event.get_id())
        seen.add(event.get_id())
        if told != expected or event.get_type() != f"checkgate.{told['kind']}" \
                or not re.fullmatch(source, event.get_source()) \
                or abs(event.get_time().timestamp() - told["time"]) > 1e-3:
            wrong.append(event.get_id())
    tally.check(not wrong, f"cloudevents reads {len(seen)} at {path} as the webhook said them {wrong[:3]}")
    tally.check(seen >= set(events), f"none is missing at {path}")


def check_head(parsed, event):
    """What is wrong with the parsed head of a message."""
    severity = {"low": 5, "medium": 4, "high": 2}[event["severity"]]
    wrong = []
    for name, expected in [("pri", str(16 * 8 + severity)), ("programname", "checkgate"), ("procid", "-"),
                           ("msgid", event["kind"])]:
        if parsed[name] != expected:
            wrong.append((name, parsed[name], expected))
    data = read_structured(parsed["structured-data"])
    if data is None:
        return [("structured-data", parsed["structured-data"])]
    for name in ["id", "kind", "severity", "client", "model", "tenant", "detector", "action", "decision"]:
        expected = plain(name, event)
        told = None if name not in data else read_back(data[name])
        if told != expected:
            wrong.append((name, told, expected))
    return wrong


def check_body(host, body, event):
    """What is wrong with the parsed body of a message."""
    if host in ("gate-1-udp", "gate-3"):
        told = json.loads(body)
        return [] if told == event or (told.get("shortened") and told["event_id"] == event["event_id"]) else [told]
    read = read_leef(body) if host == "gate-2" else read_cef(body)
    head, pairs = read
    names = {"CEF:0": ("suid", "cs1", "cs2", "cs3", "act", "reason"),
             "LEEF:2.0": ("identClient", "model", "detector", "decision", "action", "reason")}[head[0]]
    wrong = []
    for name, key in zip(names, ["client", "model", "detector", "decision", "action", "why"]):
        expected, told = plain(key, event) or "", read_back(pairs.get(name, ""))
        if told != expected:
            wrong.append((name, told, expected))
    if pairs["externalId"] != event["event_id"] or head[1:3] != ["checkgate", "checkgate"]:
        wrong.append((head, pairs["externalId"]))
    return wrong


def check_syslog(tally, folder, events):
    seen = {}
    for line in (folder / "parsed.jsonl").read_text().splitlines():
        parsed = json.loads(line)
        body = parsed["msg"].removeprefix(" ")
        data = read_structured(parsed["structured-data"]) or {}
        host = parsed["hostname"]
        if host == "gate-1" and parsed["inputname"] == "imudp":
            host = "gate-1-udp"
        event = events.get(data.get("id"))
        if event is None:
            tally.check(False, f"rsyslog read an event that nobody sent: {line[:300]}")
            continue
        wrong = check_head(parsed, event) + check_body(host, body, event)
        seen.setdefault(host, {})[data["id"]] = wrong
    for host, what in [("gate-1-udp", "UDP, JSON"), ("gate-1", "TCP, octet counts, CEF"),
                       ("gate-2", "TCP, lines, LEEF"), ("gate-3", "TLS, octet counts, JSON")]:
        got = seen.get(host, {})
        wrong = {id: wrong for id, wrong in got.items() if wrong}
        tally.check(set(got) >= set(events), f"rsyslog got all of {len(events)} by {what}")
        tally.check(not wrong, f"rsyslog parsed every field by {what} {list(wrong.items())[:2]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkgate-integrations-"))
    certificates(folder)
    for number, secret in enumerate(SECRETS):
        (folder / f"secret-{number}").write_text(secret + "\n")
    ports = dict(zip(["udp", "tcp", "tls"], quiet_ports(3)))
    (folder / "rsyslog.conf").write_text(RSYSLOG.format(folder=folder, **ports))
    rsyslog = subprocess.Popen(
        ["rsyslogd", "-n", "-f", folder / "rsyslog.conf", "-i", folder / "rsyslog.pid"],
        stdout=(folder / "rsyslog.log").open("w"), stderr=subprocess.STDOUT)
    receiver = serve(Keeps)
    (folder / "checkgate.yaml").write_text(
        CONFIG.format(model=serve(Prices), hooks=receiver, events=receiver, **ports))
    tally = Tally()
    proxy = None
    try:
        wait_until(lambda: listens(ports["tcp"]) and listens(ports["tls"]), "rsyslog listening")
        proxy = Proxy(options.binary.resolve(), folder / "proxy", ["-c", folder / "checkgate.yaml"])
        story(tally, proxy, folder)
    finally:
        rsyslog.terminate()
        if proxy:
            proxy.stop()
    if tally.failed:
        print((folder / "rsyslog.log").read_text(), proxy.log.read_text() if proxy else "", sep="\n")
    print(f"{tally.passed} held, {tally.failed} failed")
    sys.exit(tally.failed > 0)


def quiet_ports(count):
    """Ports below those that clients get: no connection of this machine can take one before rsyslog does."""
    found = []
    for port in range(10_000 + os.getpid() % 5_000, 20_000):
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            try:
                stream.bind(("127.0.0.1", port))
                datagrams.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise SystemExit("no port is free")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def story(tally, proxy, folder):
    refused_at = sweep(proxy.port)
    tally.check(refused_at is not None, f"the client was refused at row {refused_at}")
    token = (folder / "proxy/state/admin.token").read_text().strip()
    operate(proxy, token)

    def idle():
        sinks = json.loads(proxy.ask_admin("/v1/sinks"))["sinks"]
        return all(sink["state"] == "works" and sink["backlog_entries"] == 0 for sink in sinks)

    wait_until(idle, "every sink having delivered")
    hooks = [request for request in Keeps.requests if request[0].startswith("/hook")]
    # Every sink began by itself: what all of them have seen begins with the finding.
    events = check_webhooks(tally, hooks)
    events = {id: event for id, event in events.items() if event["kind"] not in ("started", "configuration")}
    requests = [(path, headers, body) for path, headers, body in Keeps.requests
                if not any(word in body for word in (b'"kind":"started"', b'"kind":"configuration"'))]
    check_cloudevents(tally, requests, events, "/structured", "urn:checkgate:cg-[0-9a-f]{16}")
    check_cloudevents(tally, requests, events, "/binary", "/gates/1")
    bearer = [headers.get("authorization") for path, headers, _ in requests if path == "/structured"]
    tally.check(set(bearer) == {f"Bearer {SECRETS[0]}"}, "the token is sent where one is configured")
    parsed = folder / "parsed.jsonl"
    wait_until(lambda: parsed.exists() and len(parsed.read_text().splitlines()) >= 4 * len(events),
               "rsyslog writing what it got")
    lines = [line for line in parsed.read_text().splitlines()
             if json.loads(line)["msgid"] not in ("started", "configuration")]
    parsed.write_text("\n".join(lines) + "\n")
    check_syslog(tally, folder, events)


if __name__ == "__main__":
    main()
