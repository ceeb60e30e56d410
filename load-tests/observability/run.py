"""Is what people look at there? A real Prometheus scrapes a real run, and a real Alertmanager passes its alerts on.

Twelve honest clients ask a tariff for prices, and a contract withholds prices below zero. Then the tariff is raised and
customers are others than in the reference, which is made of a table of last month; and one more client sweeps a field. Every
expression of every dashboard and every recording rule must give a value, and the alerts on the attack and on the drift
must have reached a receiver through Alertmanager.
"""

import argparse
import csv
import http.client
import http.server
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "real-parts"))
from harness import JsonHandler, Proxy, Tally, answers, free_port, wait_until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "dashboards"
MODEL = "pricing"
HONEST_CLIENTS = 12
# Grafana fills these in; the spans are longer than a scrape of this run.
VARIABLES = {"$__rate_interval": "30s", "$__range": "5m", "$__interval": "30s", "$instance": ".*", "$model": ".*"}
# The alerts that the attack and the drift must raise.
BLOCKED, DRIFTING = "CheckgateClientBlocked", "CheckgateModelDrifting"
# How long the alert on drift waits here, where nobody wants to wait for a minute.
DRIFTS_FOR = ("for: 1m", "for: 3s")
FIELDS = [f"input[{place}]" for place in range(6)]
# What the reference is made of: a month's customers, some a second.
REFERENCE_ROWS, REFERENCE_ROWS_A_SECOND = 30_000, 250
LAST_MONTH = 30 * 86_400

CONFIG = """
models:
  - name: {model}
    upstream: http://127.0.0.1:{upstream}
    mode: enforce
    hold: answer
    contract: {{rules: [{{minimum: 0}}]}}
    drift: {{reference: pricing.reference}}
clients: {{identity: ip}}
sinks:
  - name: hooks
    webhook: {{url: "http://127.0.0.1:{hooks}/", secrets: [{{file: webhook-secret}}]}}
"""

PROMETHEUS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}/recording.yaml, {alerts}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs:
  - job_name: checkgate
    static_configs: [{{targets: ["127.0.0.1:{admin}"]}}]
"""

ALERTMANAGER = """
route: {{receiver: here, group_by: [alertname, model, detector], group_wait: 0s, group_interval: 1s}}
receivers: [{{name: here, webhook_configs: [{{url: "http://127.0.0.1:{receiver}/"}}]}}]
"""


class Tariff(JsonHandler):
    """A model: the price of a row, which somebody who asks for the wrong things gets below zero."""

    # What every price is raised by.
    surcharge = 0.0

    def do_GET(self):
        self.reply({"ready": True})

    def do_POST(self):
        question = json.loads(self.body())
        data = question["inputs"][0]["data"]
        price = price_of(data) + Tariff.surcharge
        output = {"name": "output", "datatype": "FP64", "shape": [1, 1], "data": [price]}
        self.reply({"model_name": MODEL, "outputs": [output]})


def price_of(row):
    return 900.0 - 0.04 * row[1] + 11.0 * row[0] % 97.0


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what Alertmanager and the sink send."""

    alerts = []

    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        # The sink's events come here as well.
        Receiver.alerts.extend(told.get("alerts", []))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Client:
    """One client at one loopback address."""

    def __init__(self, port, source):
        self.port, self.source = port, source
        self.statuses = {}
        self.connect()

    def connect(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, source_address=(self.source, 0), timeout=30)

    def ask(self, row):
        body = json.dumps({"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, len(row)], "data": row}]})
        try:
            self.connection.request("POST", f"/v2/models/{MODEL}/infer", body, {"content-type": "application/json"})
            reply = self.connection.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException):
            self.connect()
            return None
        self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
        return reply.status


# By how many years customers are older than those of the reference, once the market has changed.
OLDER = {"years": 0.0}


def customer(draw, older=0.0):
    """A row of an honest client."""
    return [draw.uniform(18 + older, 80), draw.uniform(2_000, 20_000), float(draw.randint(0, 30)), draw.uniform(40, 200),
            float(draw.randint(0, 9)), draw.uniform(0, 40_000)]


def ask_honestly(client, seed, over):
    draw = random.Random(seed)
    while not over.is_set():
        client.ask(customer(draw, OLDER["years"]))
        time.sleep(draw.uniform(0.02, 0.1))


def attack(client):
    """Sweeps one field until it is refused; gives the row at which it was."""
    row = customer(random.Random(99))
    for step in range(400):
        row[1] = 2_000.0 + 61.0 * step
        if client.ask(row) == 403:
            return step
        time.sleep(0.02)
    return None


def write_table(path):
    """Last month's customers with their prices, as a table that a reference can be made of."""
    draw, begun = random.Random(7), time.time() - LAST_MONTH
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["when", *FIELDS, "output"])
        for number in range(REFERENCE_ROWS):
            row = customer(draw)
            table.writerow([f"{begun + number / REFERENCE_ROWS_A_SECOND:.3f}", *row, price_of(row)])


def make_reference(binary, folder):
    write_table(folder / "last-month.csv")
    subprocess.run([binary, "reference", "build", "--from", folder / "last-month.csv", "--time", "when", "--answers",
                    "output", "-o", folder / "pricing.reference"], check=True, stdout=subprocess.DEVNULL)


def start(command, log):
    return subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT)


def query(port, expression):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)["data"]["result"]
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode()[:200]}"


def alerts(port):
    """What Prometheus raises, or would soon."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=10) as reply:
        return json.load(reply)["data"]["alerts"]


def panels(node):
    for panel in node.get("panels", []):
        yield panel
        yield from panels(panel)


def expressions():
    """Every expression that somebody looks at, with where it stands."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']} {target['refId']}", filled(target["expr"])


def filled(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    # What hides zeros on a panel must be there all the same.
    return re.sub(r">\s*0\s*$", "", expression)


def recorded():
    """The names of the recording rules."""
    return re.findall(r"record: (\S+)", (DASHBOARDS / "prometheus" / "recording.yaml").read_text())


# There is nothing to divide where nothing failed.
ONLY_AT_TIMES = {"model:checkgate_errors:ratio_rate5m"}


def check_views(tally, port):
    count = 0
    for place, expression in expressions():
        result = query(port, expression)
        count += 1
        if not isinstance(result, list) or not result:
            tally.check(False, f"{place} shows nothing: {expression} gives {result}")
    tally.check(count > 50, f"{count} expressions of dashboards give a value")
    for name in recorded():
        if name not in ONLY_AT_TIMES:
            tally.check(query(port, name), f"the rule {name} gives a value")


def passed_on(name, tally):
    """Waits for an alert to come out of Alertmanager."""
    expected = lambda: [alert for alert in Receiver.alerts if alert["labels"]["alertname"] == name]
    wait_until(expected, f"{name} reaching the receiver")
    alert = expected()[0]
    tally.check(alert["status"] == "firing" and alert["labels"]["model"] == MODEL,
                f"Alertmanager passed on: {alert['annotations']['summary']}")


def drift_state(port):
    states = query(port, f'checkgate_drift_state{{model="{MODEL}"}} > 0')
    return [series["metric"]["state"] for series in states]


def check_drift(proxy, port, tally):
    """What moved stands out on the panels, and what did not does not."""
    effects = {series["metric"]["feature"]: float(series["value"][1])
               for series in query(port, f'checkgate_drift_feature_effect{{model="{MODEL}"}}')}
    tally.check(set(effects) == {*FIELDS, "answer:output", "largest"}, f"every feature has its series: {sorted(effects)}")
    moved = [effects.pop(name, 0.0) for name in ("input[0]", "answer:output", "largest")]
    tally.check(min(moved) > 0.1 and min(moved) > max(effects.values()),
                f"what moved stands out: {min(moved):.2f} against {max(effects.values()):.2f} at most")
    records = json.loads(proxy.ask_admin("/v1/findings?kind=drift"))["findings"]
    named = {feature["name"] for record in records for feature in record["features"]}
    tally.check(named & {"input[0]", "answer:output"}, f"the record of the drift names what moved: {sorted(named)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=20, help="how long the honest clients ask before the attack")
    parser.add_argument("--keep", action="store_true", help="leave everything up until Ctrl-C")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkgate-observed-"))
    config = folder / "checkgate.yaml"
    (folder / "webhook-secret").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    config.write_text(CONFIG.format(model=MODEL, upstream=serve(Tariff), hooks=serve(Receiver)))
    make_reference(options.binary.resolve(), folder)
    alerts = (DASHBOARDS / "prometheus" / "alerts.yaml").read_text()
    (folder / "alerts.yaml").write_text(alerts.replace(*DRIFTS_FOR))
    proxy = Proxy(options.binary.resolve(), folder / "proxy", ["-c", config])
    watch, manager = free_port(), free_port()
    (folder / "prometheus.yml").write_text(
        PROMETHEUS.format(rules=DASHBOARDS / "prometheus", alerts=folder / "alerts.yaml", alertmanager=manager,
                          admin=proxy.admin_port))
    (folder / "alertmanager.yml").write_text(ALERTMANAGER.format(receiver=serve(Receiver)))
    others = [
        start(["prometheus", f"--config.file={folder}/prometheus.yml", f"--web.listen-address=127.0.0.1:{watch}",
               f"--storage.tsdb.path={folder}/tsdb"], folder / "prometheus.log"),
        start(["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", "--cluster.listen-address=",
               f"--web.listen-address=127.0.0.1:{manager}", f"--storage.path={folder}/alerts"],
              folder / "alertmanager.log"),
    ]
    over, tally = threading.Event(), Tally()
    try:
        story(options, proxy, watch, manager, over, tally)
        if options.keep:
            print(f"\nPrometheus    http://127.0.0.1:{watch}/alerts\nAlertmanager  http://127.0.0.1:{manager}\n"
                  f"checkgate     http://127.0.0.1:{proxy.admin_port}/v1/status\nCtrl-C ends it.", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        over.set()
        [process.terminate() for process in others]
        proxy.stop()
    print(f"{tally.passed} held, {tally.failed} failed")
    sys.exit(tally.failed > 0)


def story(options, proxy, watch, manager, over, tally):
    wait_until(lambda: answers(watch, "/-/ready") and answers(manager, "/-/ready"), "Prometheus being ready")
    honest = [Client(proxy.port, f"127.0.3.{number}") for number in range(1, HONEST_CLIENTS + 1)]
    for seed, client in enumerate(honest):
        threading.Thread(target=ask_honestly, args=(client, seed, over), daemon=True).start()
    print(f"{HONEST_CLIENTS} honest clients ask for {options.seconds:.0f} s", flush=True)
    time.sleep(options.seconds)
    tally.check(drift_state(watch) == ["stable"], f"before anything moved the model is {drift_state(watch)}")
    # The drift comes first: an attack moves the traffic as well.
    begun = time.monotonic()
    OLDER["years"], Tariff.surcharge = 15.0, 60.0
    passed_on(DRIFTING, tally)
    print(f"the drift was told and passed on within {time.monotonic() - begun:.0f} s", flush=True)
    attacker = Client(proxy.port, "127.0.3.66")
    refused_at = attack(attacker)
    tally.check(refused_at is not None, f"the attacker was refused at row {refused_at}")
    passed_on(BLOCKED, tally)
    # A busy machine may make some wait that judge latency.
    raised = {alert["labels"]["alertname"] for alert in alerts(watch)
              if alert["state"] == "firing" or alert["labels"]["severity"] == "critical"}
    tally.check(raised == {BLOCKED, DRIFTING}, f"no other alert is raised: {sorted(raised)}")
    check_views(tally, watch)
    check_drift(proxy, watch, tally)
    refused = sum(client.statuses.get(403, 0) for client in honest)
    tally.check(refused == 0, f"no honest client was refused ({sum(sum(c.statuses.values()) for c in honest)} answers)")


if __name__ == "__main__":
    main()
