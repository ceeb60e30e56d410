"""Do vendors' receivers take what checkgate sends? No vendor's own intake is asked: receivers.py is as strict as what
they publish. First each vendor's own client (of Splunk, which has none, one that others wrote) shows that its receiver is
fair; then checkgate delivers, through outages, refusals, repeats, restarts and bodies that are too large.
"""

import argparse
import contextlib
import http.client
import io
import json
import logging
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "real-parts"))
from harness import PATIENCE_SECONDS, Proxy, Tally  # noqa: E402

from receivers import Datadog, Elastic, Entra, Hec, Ingestion, Lake  # noqa: E402

ROOT = HERE.parents[2]
GUID = "0a1b2c3d-0000-4000-8000-000000000001"
TENANT, CLIENT, SECRET = GUID, GUID.replace("0001", "0002"), "s3cr~t/with+signs&="
TOKEN, KEY = GUID.replace("0001", "0003"), "0123456789abcdef0123456789abcdef"
RULE, STREAM = "dcr-" + "0" * 32, "Custom-Checkgate_CL"
# The columns that people are told to create.
TYPES = {"datetime": str, "string": str, "long": int, "dynamic": (dict, list)}
DECLARED = json.loads((ROOT / "deploy/sentinel/rule.json").read_text())["properties"]["streamDeclarations"][STREAM]
COLUMNS = {column["name"]: TYPES[column["type"]] for column in DECLARED["columns"]}
INDEX = "logs-checkgate.event-default"
POISON = "nobody-takes-this"

CONFIG = """
upstream: http://127.0.0.1:9
clients: {{identity: ip}}
mode: enforce
brake: {{blocks_per_minute: 1000000, share_of_clients: 1}}
sinks:
"""

SPLUNK = """
  - name: {name}
    timeout: {timeout}
    batch: {{events: 10000, bytes: 16MiB, wait: 200ms}}
    splunk_hec:
      url: {url}
      token: {{file: {folder}/hec-token}}
      index: {index}
      acknowledge: {acknowledge}
      format: {format}
      connection: {{ca_file: {folder}/authority.pem}}
"""

SENTINEL = """
  - name: {name}
    timeout: 5s
    batch: {{events: 10000, bytes: 16MiB, wait: 200ms}}
    sentinel:
      endpoint: {url}
      rule: {rule}
      stream: {stream}
      tenant: {tenant}
      client_id: {client}
      client_secret: {{file: {folder}/azure-secret}}
      authority: {authority}
      connection: {{ca_file: {folder}/authority.pem}}
"""

DATADOG = """
  - name: {name}
    timeout: 5s
    batch: {{events: 10000, bytes: 16MiB, wait: 200ms}}
    datadog:
      url: {url}
      events_url: {url}
      api_key: {{file: {folder}/datadog-key}}
      tags: [env:test]
      connection: {{ca_file: {folder}/authority.pem}}
"""

ELASTIC = """
  - name: {name}
    timeout: 5s
    batch: {{events: 10000, bytes: 16MiB, wait: 200ms}}
    elastic:
      url: {url}
      index: {index}
      api_key: {{file: {folder}/elastic-key}}
      connection: {{ca_file: {folder}/authority.pem}}
"""

OCSF = """
  - name: {name}
    timeout: 5s
    batch: {{events: 10000, bytes: 16MiB, wait: 200ms}}
    ocsf:
      url: {url}/events
      body: {body}
      token: {{file: {folder}/hec-token}}
      compress: {compress}
      connection: {{ca_file: {folder}/authority.pem}}
"""


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def certificate(folder):
    """An authority, and a certificate of localhost by it."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority, key, request = folder / "authority.pem", folder / "authority.key", folder / "request.pem"
    openssl("req", "-x509", *curve, "-keyout", key, "-out", authority, "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *curve, "-keyout", folder / "own.key", "-out", request, "-subj", "/CN=localhost")
    (folder / "extensions").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-CAcreateserial",
            "-out", folder / "own.pem", "-days", "2", "-extfile", folder / "extensions")
    return folder / "own.pem", folder / "own.key"


class World:
    """The receivers, the folder, and what is written down."""

    def __init__(self, options, folder, tally):
        self.binary, self.folder, self.tally = options.binary.resolve(), folder, tally
        self.certificate = certificate(folder)
        self.gates = []
        self.authority = folder / "authority.pem"
        secrets = {"hec-token": TOKEN, "azure-secret": SECRET, "datadog-key": KEY, "elastic-key": KEY, "wrong": "wrong"}
        for name, secret in secrets.items():
            (folder / name).write_text(secret)

    def hec(self, acknowledges, **more):
        return Hec(self.certificate, TOKEN, acknowledges, **more)

    def azure(self, lasts=3600):
        entra = Entra(self.certificate, TENANT, CLIENT, SECRET, lasts)
        return entra, Ingestion(self.certificate, entra, RULE, STREAM, COLUMNS)

    def datadog(self):
        return Datadog(self.certificate, KEY)

    def elastic(self, **more):
        return Elastic(self.certificate, KEY, INDEX, **more)

    def lake(self):
        return Lake(self.certificate, TOKEN)

    def splunk_sink(self, hec, name="splunk", **more):
        said = {"timeout": "10s", "index": "main", "acknowledge": "false", "format": "json"} | more
        return SPLUNK.format(name=name, url=hec.url, folder=self.folder, **said)

    def sentinel_sink(self, entra, ingestion, name="sentinel", **more):
        said = {"rule": RULE, "stream": STREAM, "tenant": TENANT, "client": CLIENT} | more
        return SENTINEL.format(name=name, url=ingestion.url, authority=entra.url, folder=self.folder, **said)

    def datadog_sink(self, datadog, name="datadog"):
        return DATADOG.format(name=name, url=datadog.url, folder=self.folder)

    def elastic_sink(self, elastic, name="elastic", index="logs-checkgate.event-default"):
        return ELASTIC.format(name=name, url=elastic.url, index=index, folder=self.folder)

    def ocsf_sink(self, lake, name="ocsf", body="lines", compress="true"):
        return OCSF.format(name=name, url=lake.url, body=body, compress=compress, folder=self.folder)

    def gate(self, name, *sinks):
        self.gates.append(Gate(self, name, "".join(sinks)))
        return self.gates[-1]

    def tried(self, name, sink):
        """What `checkgate sinks test` says of one sink, and its exit code."""
        config = self.folder / f"{name}-tried.yaml"
        config.write_text(CONFIG.format() + sink)
        command = [self.binary, "sinks", "test", name, "-c", config, "--state", self.folder / "no-state"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return done.returncode, done.stdout + done.stderr


class Gate:
    """A running checkgate whose ledger grows as it is told."""

    def __init__(self, world, name, sinks):
        self.world, self.folder, self.clients = world, world.folder / name, 0
        self.config = world.folder / f"{name}.yaml"
        self.config.write_text(CONFIG.format() + sinks)
        self.start()

    def start(self):
        self.proxy = Proxy(self.world.binary, self.folder, ["-c", self.config])
        token = self.folder / "state" / "admin.token"
        self.token = token.read_text().strip()

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.admin_port, timeout=30)
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        read = reply.read()
        if reply.status >= 300:
            raise SystemExit(f"{method} {path} gave {reply.status}: {read.decode()[:300]}")
        return json.loads(read) if read else None

    def decide(self, why="a test"):
        """A decision on a new client; gives its id."""
        self.clients += 1
        client = f"192.0.{self.clients // 250}.{self.clients % 250 + 1}"
        return self.ask("POST", "/v1/decisions", {"client": client, "seconds": 3600, "why": why})["id"]

    def lift(self, decision, why="a%20test"):
        self.ask("DELETE", f"/v1/decisions/{decision}?why={why}")

    def some(self, count=5):
        """Decisions and lifts, and what else operators do."""
        for _ in range(count):
            self.lift(self.decide())
        self.decide()
        self.ask("PUT", "/v1/never-block/198.51.100.0%2F24?why=a%20test")
        self.ask("PUT", "/v1/kill-switch?why=a%20test")
        self.ask("DELETE", "/v1/kill-switch?why=a%20test")

    def sink(self, name):
        return next(sink for sink in json.loads(self.proxy.ask_admin("/v1/sinks"))["sinks"] if sink["name"] == name)

    def has_delivered(self, *names):
        """Waits until the sinks are done; after an outage they pause for up to a minute."""
        time.sleep(1.5)  # What is shown is brought up once a second.
        deadline = time.monotonic() + 2 * PATIENCE_SECONDS
        while behind := [name for name in names if self.sink(name)["backlog_entries"]]:
            if time.monotonic() > deadline:
                raise SystemExit(f"not delivered: {[self.sink(name) for name in behind]}")
            time.sleep(0.1)

    def kill(self):
        self.proxy.process.send_signal(signal.SIGKILL)
        self.proxy.process.wait()

    def letters(self, name):
        """The dead letters of a sink."""
        found = [path for path in (self.folder / "state" / "sinks").iterdir() if path.name.startswith(f"{name}.dead")]
        return [json.loads(line) for path in found for line in path.read_text().splitlines() if line.strip()]


def is_complete(receiver):
    """Whether entries came without a gap."""
    numbers = receiver.numbers()
    return bool(numbers) and numbers == list(range(numbers[0], numbers[-1] + 1))


def complete(tally, receiver, what, at_least=1):
    numbers = receiver.numbers()
    repeats = len(receiver.got) - len(numbers)
    tally.check(is_complete(receiver) and len(numbers) >= at_least,
                f"{what}: {len(numbers)} entries without a gap, {repeats} repeats")
    tally.check(not receiver.complaints, f"{what}: nothing to complain of{receiver.complaints[:3] or ''}")


# The receivers themselves.

def fair_splunk(world, tally):
    from splunk_handler import SplunkHandler
    receiver = world.hec(acknowledges=False)

    def send(token, index="main"):
        handler = SplunkHandler(host="localhost", port=receiver.port, token=token, index=index,
                                verify=str(world.authority), flush_interval=60, retry_count=0,
                                source="test", sourcetype="json")
        logger = logging.Logger("test")
        logger.addHandler(handler)
        [logger.warning("event %d", number) for number in range(50)]
        # It prints what is refused.
        with contextlib.redirect_stdout(io.StringIO()):
            handler.shutdown()

    send(TOKEN)
    tally.check(len(receiver.got) == 50, f"Splunk: splunk-handler gets {len(receiver.got)} of 50 events through")
    send("wrong")
    send(TOKEN, index="secret")
    codes = [body["code"] for _, body in receiver.refused]
    tally.check(codes == [4, 7] and len(receiver.got) == 50,
                f"Splunk: a wrong token and a wrong index are refused: {codes}")


def fair_azure(world, tally):
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
    from azure.identity import ClientSecretCredential
    from azure.monitor.ingestion import LogsIngestionClient
    entra, ingestion = world.azure()
    options = {"connection_verify": str(world.authority), "retry_total": 0}

    def send(count, secret=SECRET, rule=RULE, size=10):
        credential = ClientSecretCredential(TENANT, CLIENT, secret, authority=entra.url,
                                            disable_instance_discovery=True, **options)
        client = LogsIngestionClient(ingestion.url, credential, credential_scopes=["https://monitor.azure.com/.default"],
                                     **options)
        row = {"TimeGenerated": "2026-11-01T00:00:00Z", "Why": "x" * size}
        rows = [row | {"EventId": str(number)} for number in range(count)]
        client.upload(rule_id=rule, stream_name=STREAM, logs=rows)

    send(50)
    tally.check(len(ingestion.got) == 50,
                f"Azure: azure-identity and azure-monitor-ingestion get {len(ingestion.got)} rows through")
    send(3000, size=1000)
    large = [body for body in ingestion.bodies[1:]]
    tally.check(len(ingestion.got) == 3050 and len(large) > 2,
                f"Azure: the client cuts 3 MB into {len(large)} bodies, all taken")
    for what, call, error in [("secret", lambda: send(1, secret="wrong"), ClientAuthenticationError),
                              ("rule", lambda: send(1, rule="dcr-" + "1" * 32), HttpResponseError)]:
        try:
            call()
            tally.check(False, f"Azure: a wrong {what} is taken")
        except error:
            tally.check(True, f"Azure: a wrong {what} is refused")
    tally.check(not ingestion.complaints,
                f"Azure: nothing to complain of the client's rows{ingestion.complaints[:3] or ''}")


def datadog_client(world, receiver, key):
    from datadog_api_client import ApiClient, Configuration
    configuration = Configuration(host=receiver.url, api_key={"apiKeyAuth": key}, ssl_ca_cert=str(world.authority))
    configuration.server_operation_index["submit_log"] = 1
    configuration.server_operation_variables["submit_log"] = {"name": f"localhost:{receiver.port}", "protocol": "https"}
    return ApiClient(configuration)


def fair_datadog(world, tally):
    from datadog_api_client.exceptions import ApiException
    from datadog_api_client.v1.api.events_api import EventsApi
    from datadog_api_client.v1.model.event_create_request import EventCreateRequest
    from datadog_api_client.v2.api.logs_api import LogsApi
    from datadog_api_client.v2.model.content_encoding import ContentEncoding
    from datadog_api_client.v2.model.http_log import HTTPLog
    from datadog_api_client.v2.model.http_log_item import HTTPLogItem
    receiver = world.datadog()
    log = HTTPLog([HTTPLogItem(ddsource="test", ddtags="env:test", hostname="h", message="m", service="s")])
    with datadog_client(world, receiver, KEY) as client:
        LogsApi(client).submit_log(content_encoding=ContentEncoding.GZIP, body=log)
        said = EventsApi(client).create_event(body=EventCreateRequest(title="t", text="x", tags=["env:test"]))
    tally.check(len(receiver.got) == 1 and receiver.bodies[0][0] == "gzip",
                "Datadog: its client gets a compressed log through")
    tally.check(said.status == "ok" and len(receiver.events) == 1,
                "Datadog: its client gets an event through and reads the answer")
    with datadog_client(world, receiver, "wrong") as client:
        try:
            LogsApi(client).submit_log(body=log)
            tally.check(False, "Datadog: a wrong key is taken")
        except ApiException as error:
            tally.check(error.status == 403, "Datadog: a wrong key is refused")


def fair_elastic(world, tally):
    from elasticsearch import AuthenticationException, Elasticsearch
    from elasticsearch.helpers import bulk
    receiver = world.elastic()

    def send(key, documents):
        client = Elasticsearch(receiver.url, api_key=key, ca_certs=str(world.authority), max_retries=0)
        orders = [{"_op_type": "create", "_index": INDEX, "_id": str(number), **document}
                  for number, document in enumerate(documents)]
        return bulk(client, orders, raise_on_error=False)

    made, _ = send(KEY, [{"@timestamp": "2026-11-01T00:00:00Z"}] * 50)
    tally.check(made == 50 and len(receiver.got) == 50, f"Elastic: its client creates {made} documents")
    made, errors = send(KEY, [{"@timestamp": "2026-11-01T00:00:00Z"}] * 50 + [{}])
    statuses = sorted({error["create"]["status"] for error in errors})
    tally.check(made == 0 and statuses == [400, 409],
                f"Elastic: its client is told {statuses} of repeats and of no time")
    try:
        send("wrong", [{}])
        tally.check(False, "Elastic: a wrong key is taken")
    except AuthenticationException:
        tally.check(True, "Elastic: a wrong key is refused")


# What checkgate sends.

def mends(world, tally):
    """What a person has to mend is told as that, and `sinks test` says which it is."""
    hec, acking = world.hec(acknowledges=False), world.hec(acknowledges=True)
    (entra, ingestion), datadog, lake, elastic = world.azure(), world.datadog(), world.lake(), world.elastic()
    ends = {
        "splunk": world.splunk_sink(hec), "acking": world.splunk_sink(acking, "acking", acknowledge="true"),
        "sentinel": world.sentinel_sink(entra, ingestion), "datadog": world.datadog_sink(datadog),
        "ocsf": world.ocsf_sink(lake), "elastic": world.elastic_sink(elastic),
    }
    for name, sink in ends.items():
        code, said = world.tried(name, sink)
        tally.check(code == 0 and said.rstrip().endswith("taken"), f"{name}: `checkgate sinks test` ends well")
    wrong = lambda sink, secret: sink.replace(str(world.folder / secret), str(world.folder / "wrong"))
    cases = [
        ("splunk", wrong(ends["splunk"], "hec-token"), "Invalid token"),
        ("splunk", world.splunk_sink(hec, index="secret"), "allow it there"),
        ("splunk", world.splunk_sink(hec, acknowledge="true"), "enable it"),
        ("acking", world.splunk_sink(acking, "acking"), "set acknowledge to true"),
        ("sentinel", wrong(ends["sentinel"], "azure-secret"), "client_secret"),
        ("sentinel", world.sentinel_sink(entra, ingestion, stream="Custom-Other"), "no such stream"),
        ("sentinel", world.sentinel_sink(entra, ingestion, rule="dcr-other"), "look at endpoint"),
        ("datadog", wrong(ends["datadog"], "datadog-key"), "403"),
        ("ocsf", wrong(ends["ocsf"], "hec-token"), "401"),
        ("elastic", wrong(ends["elastic"], "elastic-key"), "401"),
        ("elastic", world.elastic_sink(elastic, index="logs-other"), "no such index"),
    ]
    for name, sink, expected in cases:
        code, said = world.tried(name, sink)
        tally.check(code == 1 and "somebody has to mend it" in said and expected in said,
                    f"{name}: told to be mended: {said.strip().splitlines()[-1][:150]}")
        tally.check(SECRET not in said and TOKEN not in said and KEY not in said, f"{name}: no secret is shown")
    ingestion.has_role = False
    code, said = world.tried("sentinel", ends["sentinel"])
    tally.check(code == 1 and "Monitoring Metrics Publisher" in said, "sentinel: the role that is missing is named")
    hec.is_enabled = False
    code, said = world.tried("splunk", ends["splunk"])
    tally.check(code == 1 and "somebody has to mend it" in said, "splunk: a token that was disabled is told as such")


def happy(world, tally):
    """Everything arrives everywhere, through busy receivers, a token that is taken back, and one that ends."""
    hec, plain, lake, array = world.hec(True), world.hec(False), world.lake(), world.lake()
    (entra, ingestion), datadog, elastic = world.azure(lasts=4), world.datadog(), world.elastic()
    gate = world.gate(
        "happy", world.splunk_sink(hec, acknowledge="true"), world.splunk_sink(plain, "splunk-ocsf", format="ocsf"),
        world.sentinel_sink(entra, ingestion), world.datadog_sink(datadog), world.ocsf_sink(lake),
        world.elastic_sink(elastic), world.ocsf_sink(array, "array", body="array", compress="false"))
    names = ("splunk", "splunk-ocsf", "sentinel", "datadog", "ocsf", "array", "elastic")
    gate.some()
    gate.has_delivered(*names)
    hec.faults += [(503, {"text": "Server is busy", "code": 9}), (500, {"text": "Internal server error", "code": 8})]
    ingestion.faults += [(429, {"error": {"code": "TooManyRequests"}}, {"Retry-After": "1"}), (503, None)]
    datadog.faults += [(429, {"errors": []}), (503, {"errors": []})]
    elastic.busy_items = 3
    began = time.monotonic()
    gate.some()
    gate.has_delivered(*names)
    tally.check(time.monotonic() - began >= 1.0, "sentinel: Retry-After is kept")
    asked = len(entra.tokens)
    entra.tokens.clear()
    gate.some()
    gate.has_delivered(*names)
    tally.check(len(entra.tokens) >= 1, "sentinel: a token that was taken back is asked for anew")
    time.sleep(4)
    gate.some()
    gate.has_delivered(*names)
    over = [status for status, _ in ingestion.refused if status == 401]
    tally.check(asked + len(entra.tokens) >= 3 and len(over) <= 1,
                f"sentinel: tokens are exchanged before they end ({len(over)} refused)")
    for receiver, what in [(hec, "splunk"), (plain, "splunk-ocsf"), (ingestion, "sentinel"), (datadog, "datadog"),
                           (lake, "ocsf"), (array, "ocsf as an array"), (elastic, "elastic")]:
        complete(tally, receiver, what, 50)
    tally.check(not elastic.busy_items and len(elastic.got) == len(elastic.numbers()),
                f"elastic: {elastic.repeats} repeats after busy answers made no second document")
    tally.check(hec.polls > 0 and not hec.pending, f"splunk: every batch was acknowledged, in {hec.polls} questions")
    for receiver, what in [(hec, "splunk"), (ingestion, "sentinel"), (datadog, "datadog"), (lake, "ocsf"),
                           (elastic, "elastic")]:
        tally.check(any(encoding == "gzip" for encoding, *_ in receiver.bodies), f"{what}: bodies are compressed")
    models_of_datadog(tally, datadog)
    gate.proxy.stop()
    return [event["event"] for event in plain.got] + lake.got + array.got


def models_of_datadog(tally, datadog):
    """What came, read by the models of Datadog's own client."""
    from datadog_api_client.v1.model.event_create_request import EventCreateRequest
    from datadog_api_client.v2.model.http_log import HTTPLog
    from datadog_api_client.model_utils import validate_and_convert_types
    for read, kind in [(datadog.got, HTTPLog), *[(event, EventCreateRequest) for event in datadog.events]]:
        from datadog_api_client import Configuration
        model = validate_and_convert_types(read, (kind,), ["received"], True, Configuration())
        if getattr(model, "_unparsed", False):
            tally.check(False, f"datadog: {kind.__name__} does not read {str(read)[:200]}")
    decided = [event for event in datadog.events if any(tag == "kind:decision" for tag in event["tags"])]
    lifted = [event for event in datadog.events if any(tag == "kind:lifted" for tag in event["tags"])]
    tally.check(decided and lifted,
                f"datadog: its own models read {len(datadog.got)} logs and {len(datadog.events)} events")
    grouped = {event["aggregation_key"] for event in lifted} <= {event["aggregation_key"] for event in decided}
    tally.check(grouped, "datadog: a lift stands with its decision")


def unwanted(world, tally):
    """The one event that nobody takes goes to the dead letters, and everything else arrives; so do halves of what is too
    large."""
    hec = world.hec(False, poison=POISON)
    (entra, ingestion), datadog, elastic = world.azure(), world.datadog(), world.elastic(poison=POISON)
    names = ("splunk", "sentinel", "datadog", "elastic")
    gate = world.gate("unwanted", world.splunk_sink(hec), world.sentinel_sink(entra, ingestion),
                      world.datadog_sink(datadog), world.elastic_sink(elastic))
    gate.has_delivered(*names)
    ingestion.bytes_max = datadog.bytes_max = 8_000
    first = gate.decide()
    gate.lift(first, why=POISON)
    gate.some(10)
    gate.has_delivered(*names)
    for receiver, name in [(hec, "splunk"), (elastic, "elastic")]:
        letters = gate.letters(name)
        tally.check(len(letters) == 1 and letters[0]["event"]["why"] == POISON,
                    f"{name}: {len(letters)} dead letter, the one that is not wanted")
        dead = {letter["event"]["number"] for letter in letters}
        numbers = set(receiver.numbers()) | dead
        tally.check(numbers == set(range(min(numbers), max(numbers) + 1)),
                    f"{name}: the other {len(numbers) - len(dead)} arrived")
    for receiver, what in [(ingestion, "sentinel"), (datadog, "datadog")]:
        halved = [status for status, _ in receiver.refused if status == 413]
        complete(tally, receiver, f"{what}, after {len(halved)} bodies that were too large")
        tally.check(halved, f"{what}: bodies were halved")
    for receiver, name in [(hec, "splunk"), (elastic, "elastic")]:
        receiver.poison = None
        replay = [world.binary, "sinks", "replay", name, "-c", gate.config, "--state", gate.folder / "state"]
        said = subprocess.run(replay, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        tally.check(said.returncode == 0, f"{name}: replayed: {said.stdout.strip()}")
        complete(tally, receiver, f"{name}, with what was replayed")
    gate.proxy.stop()


def repeats(world, tally):
    """What the indexers do not acknowledge in time is sent again."""
    hec = world.hec(True)
    hec.never_acks = 1
    gate = world.gate("repeats", world.splunk_sink(hec, acknowledge="true", timeout="3s"))
    gate.some()
    gate.has_delivered("splunk")
    complete(tally, hec, "splunk, after indexers that were silent")
    tally.check(len(hec.got) > len(hec.numbers()),
                "splunk: what was not acknowledged came again, under the same numbers")
    ids = {}
    for event in hec.got:
        ids.setdefault(event["event"]["number"], set()).add(event["event"]["event_id"])
    tally.check(all(len(same) == 1 for same in ids.values()), "splunk: repeats have the id of what they repeat")
    gate.proxy.stop()


def restarts(world, tally):
    """Receivers are away, checkgate is killed twice meanwhile, and nothing is missing. What waited then makes bodies that
    are too large for one request."""
    hec, lake, elastic = world.hec(True), world.lake(), world.elastic()
    (entra, ingestion), datadog = world.azure(), world.datadog()
    gate = world.gate("restarts", world.splunk_sink(hec, acknowledge="true"), world.sentinel_sink(entra, ingestion),
                      world.datadog_sink(datadog), world.ocsf_sink(lake), world.elastic_sink(elastic))
    names = ("splunk", "sentinel", "datadog", "ocsf", "elastic")
    gate.some(1)
    gate.has_delivered(*names)
    away = lambda _: (503, None)
    for receiver in (hec, ingestion, datadog, lake, elastic):
        receiver.faults.append(away)
    for _ in range(2):
        [gate.decide(why="w" * 500) for _ in range(250)]
        gate.kill()
        gate.start()
    for receiver in (hec, ingestion, datadog, lake, elastic):
        with receiver.lock:
            receiver.faults.clear()
            receiver.bodies.clear()
    gate.has_delivered(*names)
    for receiver, what in [(hec, "splunk"), (ingestion, "sentinel"), (datadog, "datadog"), (lake, "ocsf"),
                           (elastic, "elastic")]:
        complete(tally, receiver, f"{what}, after two kills while it was away", 500)
        sizes = [size for *_, size in receiver.bodies if size > 500]
        too_large = [body for status, body in receiver.refused if status == 413]
        tally.check(not too_large and max(sizes) <= receiver.bytes_promised,
                    f"{what}: {len(sizes)} bodies of up to {max(sizes):,} bytes, none too large")
    last = {receiver.numbers()[-1] for receiver in (hec, ingestion, datadog, lake, elastic)}
    tally.check(last == {gate.sink("splunk")["position"]},
                f"everybody has everything up to entry {last}, the ledger's last")
    gate.proxy.stop()


def is_ocsf(world, tally, events):
    """Every event, and the committed ones with hostile texts, by two libraries."""
    import jsonschema
    from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
    from py_ocsf_models.events.findings.detection_finding import DetectionFinding
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    findings = jsonschema.Draft202012Validator(schema.get_class_schema("detection_finding", ["security_control"]))
    base = jsonschema.Draft202012Validator(schema.get_class_schema("base_event", []))
    committed = (ROOT / "proxy/fixtures/sinks/ocsf.expected").read_text().splitlines()
    wrong, read = [], {2004: 0, 0: 0}
    for event in events + [json.loads(line) for line in committed]:
        validator = findings if event["class_uid"] == 2004 else base
        wrong += [f"{error.json_path}: {error.message:.150}" for error in validator.iter_errors(event)]
        read[event["class_uid"]] += 1
        if event["class_uid"] == 2004:
            # It knows the kinds of observables of an older version; the validator above has looked at all of them.
            observables = [one for one in event.get("observables", []) if one["type_id"] <= 30]
            try:
                DetectionFinding.model_validate(event | {"observables": observables})
            except ValueError as error:
                wrong.append(f"py-ocsf-models: {str(error)[:300]}")
    tally.check(not wrong,
                f"OCSF 1.8.0: {read[2004]} findings and {read[0]} other events are valid{sorted(set(wrong))[:5] or ''}")
    broken = json.loads(committed[0])
    del broken["finding_info"]
    tally.check(any(findings.iter_errors(broken)), "OCSF: the validator refuses a finding without finding_info")
    lives = {}
    for event in (event for event in events if event["class_uid"] == 2004):
        lives.setdefault(event["finding_info"]["uid"], set()).add(event["activity_id"])
    closed = [uid for uid, activities in lives.items() if 3 in activities]
    tally.check(closed and all(1 in lives[uid] for uid in closed),
                f"OCSF: {len(closed)} findings were created and closed under one uid")


def main():
    every = (fair_splunk, fair_azure, fair_datadog, fair_elastic, mends, happy, unwanted, repeats, restarts)
    parts = {part.__name__: part for part in every}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("parts", nargs="*", help=f"parts of the run, all by default: {', '.join(parts)}")
    options = parser.parse_args()
    tally = Tally()
    world = World(options, pathlib.Path(tempfile.mkdtemp(prefix="checkgate-vendors-")), tally)
    try:
        for name in options.parts or parts:
            print(f"-- {name}", flush=True)
            events = parts[name](world, tally)
            if name == "happy":
                is_ocsf(world, tally, events)
    finally:
        [gate.proxy.process.kill() for gate in world.gates]
    print(f"{tally.passed} held, {tally.failed} failed")
    sys.exit(tally.failed > 0)


if __name__ == "__main__":
    main()
