"""Do real receivers of OpenTelemetry take what checkgate exports, and say the same of it?

A model, an attacker whose requests are traced, and checkgate, which exports to Datadog's test agent: once straight, once
through rotel, a collector; each by gRPC and by HTTP. What the agent got is read back from it.
"""

import argparse
import http.client
import http.server
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "real-parts"))
from harness import JsonHandler, Proxy, Tally, answers, free_port, wait_until  # noqa: E402

MODEL = "pricing"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SIGNALS = {"metrics": "resource_metrics", "traces": "resource_spans", "logs": "resource_logs"}

CONFIG = """
models:
  - name: {model}
    path: /v2/models/{model}
    upstream: http://127.0.0.1:{upstream}
    mode: enforce
clients: {{identity: ip}}
telemetry: {{endpoint: "http://127.0.0.1:{port}", protocol: {protocol}, metrics_every: 1s, service_name: gate-under-test}}
"""


class Tariff(JsonHandler):
    """A model, and the traces that its questions came with."""

    parents = []

    def do_GET(self):
        self.reply({"ready": True})

    def do_POST(self):
        self.body()
        Tariff.parents.append(self.headers["traceparent"])
        output = {"name": "output", "datatype": "FP64", "shape": [1, 1], "data": [100.0]}
        self.reply({"model_name": MODEL, "outputs": [output]})


class Agent:
    """Datadog's test agent with its receivers of OTLP."""

    def __init__(self, folder):
        self.http, self.grpc, port = free_port(), free_port(), free_port()
        command = [
            pathlib.Path(sys.executable).parent / "ddapm-test-agent", f"--port={port}",
            f"--otlp-http-port={self.http}", f"--otlp-grpc-port={self.grpc}",
        ]
        self.process = started(command, folder / "agent.log")
        wait_until(lambda: answers(self.http, "/test/session/traces"), "the agent listening")

    def got(self, signal):
        """All that it got of a signal, as lists of resources."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        connection.request("GET", f"/test/session/{signal}")
        messages = json.loads(connection.getresponse().read())
        key = SIGNALS[signal]
        camel = key.split("_")[0] + key.split("_")[1].capitalize()
        return [resource for message in messages for resource in message.get(key, message.get(camel, []))]


class Rotel:
    """A collector that passes on to the agent what it gets."""

    def __init__(self, folder, agent):
        import rotel

        binary = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        # The package brings its binary without the right to run it.
        os.chmod(binary, binary.stat().st_mode | stat.S_IXUSR)
        self.http, self.grpc = free_port(), free_port()
        command = [
            binary, "start", f"--otlp-grpc-endpoint=127.0.0.1:{self.grpc}",
            f"--otlp-http-endpoint=127.0.0.1:{self.http}", f"--pid-file={folder}/rotel.pid",
            f"--log-file={folder}/rotel.out", "--exporter=otlp", "--otlp-exporter-protocol=http",
            f"--otlp-exporter-endpoint=http://127.0.0.1:{agent.http}", "--otlp-exporter-compression=none",
        ]
        self.process = started(command, folder / "rotel.log")
        wait_until(lambda: listens(self.http) and listens(self.grpc), "rotel listening")


def started(command, log):
    return subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT)


def listens(port):
    try:
        http.client.HTTPConnection("127.0.0.1", port, timeout=2).connect()
        return True
    except OSError:
        return False


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A connection that checkgate closed is none."""


def serve(handler):
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def attack(port):
    """Sweeps one field until it was refused twice; says by which decision, and how many requests that took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, source_address=("127.0.0.9", 0), timeout=30)
    refusals = []
    for step in range(200):
        row = [18.0 + step / 4, 12.0, 16_000.0, 4.0, 90.0, 15_000.0, 0.0, 7.0, 300.0, 1.0]
        body = json.dumps({"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, len(row)], "data": row}]})
        headers = {"content-type": "application/json", "traceparent": PARENT}
        connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
        reply = connection.getresponse()
        told = json.loads(reply.read())
        if reply.status == 403:
            refusals.append(told["decision_id"])
            # Whoever is refused before the body was read may find the connection closed.
            connection.close()
        if len(refusals) == 2:
            break
    return refusals, step + 1


def scraped(proxy):
    """Names of metrics, and how many series there are of each that is no histogram."""
    names, series, kinds = {}, {}, {}
    for line in proxy.ask_admin("/metrics").splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif not line.startswith("#"):
            name = line.split("{")[0].split(" ")[0]
            series[name] = series.get(name, 0) + 1
    for name, kind in kinds.items():
        names[name] = series[f"{name}_count"] if kind == "histogram" else series[name]
    return names


def within(resources, outer, inner):
    """The innermost things of nested lists, whichever way their keys are spelt."""
    for resource in resources:
        for scope in either(resource, outer):
            yield from either(scope, inner)


def either(value, key):
    head, *rest = key.split("_")
    return value.get(key, value.get(head + "".join(part.capitalize() for part in rest), []))


def attributes(value):
    return {one["key"]: next(iter(one["value"].values())) for one in either(value, "attributes")}


def points(metric):
    data = next((metric[kind] for kind in ("sum", "gauge", "histogram") if kind in metric), {})
    return either(data, "data_points")


def try_out(tally, binary, folder, road, protocol):
    folder.mkdir()
    agent = Agent(folder)
    receiver = agent if road == "straight" else Rotel(folder, agent)
    others = {id(one): one.process for one in (agent, receiver)}
    Tariff.parents.clear()
    config = folder / "checkgate.yaml"
    port = receiver.grpc if protocol == "grpc" else receiver.http
    config.write_text(CONFIG.format(model=MODEL, upstream=serve(Tariff), port=port, protocol=protocol))
    proxy = Proxy(binary, folder / "checkgate", ["-c", config])
    try:
        refusals, requests = attack(proxy.port)
        metrics = lambda: {one["name"]: one for one in within(agent.got("metrics"), "scope_metrics", "metrics")}
        records = lambda: list(within(agent.got("logs"), "scope_logs", "log_records"))
        spans = lambda: list(within(agent.got("traces"), "scope_spans", "spans"))
        expected = requests + len(Tariff.parents)
        wait_until(lambda: metrics() and len(records()) >= 2 and len(spans()) >= expected, "all signals")
        names = scraped(proxy)
        tally.check(proxy.stop() == 0, f"{road}, {protocol}: checkgate ends well")
        judge(tally, f"{road}, {protocol}", (metrics(), names), (records(), spans()), (refusals, requests))
        delivered = "telemetry is not delivered" not in proxy.log.read_text()
        tally.check(delivered, f"{road}, {protocol}: no delivery failed")
    except OSError:
        print(proxy.log.read_text(), file=sys.stderr)
        raise
    finally:
        for process in (*others.values(), proxy.process):
            process.terminate()


def judge(tally, what, numbers, told, attacked):
    (metrics, names), (records, spans), (refusals, requests) = numbers, told, attacked
    missing = [name for name in names if name not in metrics]
    tally.check(not missing, f"{what}: all {len(names)} metrics of a scrape arrived {missing or ''}")
    odd = [name for name, count in names.items() if name in metrics and len(points(metrics[name])) != count]
    tally.check(not odd, f"{what}: each with as many series {odd or ''}")
    kinds = [either(record, "event_name") or attributes(record).get("event.name") for record in records]
    decided = {attributes(one).get("checkgate.decision_id") for one in records}
    tally.check(set(refusals) <= decided, f"{what}: {refusals[0]} arrived among {len(records)} records, {sorted(set(map(str, kinds)))}")
    serving = [one for one in spans if str(one.get("kind")) in ("2", "SPAN_KIND_SERVER")]
    asking = [one for one in spans if str(one.get("kind")) in ("3", "SPAN_KIND_CLIENT")]
    tally.check(len(asking) == len(Tariff.parents), f"{what}: a span for each of {len(Tariff.parents)} questions")
    tally.check(len(serving) == requests, f"{what}: and one for each of {requests} requests, refused ones included")
    refused = [event for one in serving for event in either(one, "events")]
    named = [attributes(event).get("checkgate.decision.id") for event in refused]
    tally.check(named == refusals, f"{what}: refused requests name their decision: {named}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory() as scratch:
        for road in ("straight", "through rotel"):
            for protocol in ("grpc", "http/protobuf"):
                folder = pathlib.Path(scratch) / f"{road} {protocol}".replace(" ", "-").replace("/", "-")
                try_out(tally, arguments.binary.resolve(), folder, road, protocol)
    print(f"{tally.passed} held, {tally.failed} did not")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
