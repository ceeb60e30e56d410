"""Does DogStatsD tell Datadog the same as a scrape?

checkgate forwards requests of honest clients and of an attacker, and pushes its metrics by DogStatsD to a socket of this
script, once by UDP and once by a unix socket. Afterwards Datadog's OpenMetrics check, with the committed configuration,
reads /metrics. What was added up of the datagrams must be what the check submits: the same names, tags and values. Every
line must be the one that Datadog's own client writes for the same number.
"""

import argparse
import collections
import http.client
import http.server
import json
import os
import pathlib
import random
import socket
import sys
import tempfile
import threading
import time

import yaml
from datadog.dogstatsd import DogStatsd
from datadog_checks.base.checks.openmetrics.v2.base import OpenMetricsBaseCheckV2
from datadog_checks.base.stubs import aggregator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "real-parts"))
from harness import JsonHandler, Proxy, Tally, wait_until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONF = ROOT / "dashboards" / "datadog" / "openmetrics.d" / "conf.yaml"
MODEL = "pricing"
# These move by themselves between two readings.
RESTLESS = {"checkgate.telemetry_exports.count", "checkgate.clock_ahead_seconds"}
# The check's names of types.
GAUGE, MONOTONIC_COUNT = 0, 3
# What each sends along: the instance that is asked, and who sends.
OF_THE_CHECK, OF_THE_SENDER = ("endpoint:",), ("service:", "instance:", "env:")

CONFIG = """
models:
  - name: {model}
    upstream: http://127.0.0.1:{upstream}
    mode: enforce
clients: {{identity: ip}}
telemetry:
  dogstatsd: "{agent}"
  metrics_every: 1s
  resource: {{deployment.environment.name: test}}
"""


class Tariff(JsonHandler):
    def do_POST(self):
        self.body()
        output = {"name": "output", "datatype": "FP64", "shape": [1, 1], "data": [100.0]}
        self.reply({"model_name": MODEL, "outputs": [output]})


class Agent:
    """Takes datagrams, and keeps them with the moment at which the last one came."""

    def __init__(self, family, address):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(address)
        self.datagrams, self.readings, self.last = [], 0, 0.0
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            datagram = self.socket.recv(1 << 16).decode()
            now = time.monotonic()
            self.readings += now - self.last > 0.5
            self.last = now
            self.datagrams.append(datagram)

    def lines(self):
        return [line for datagram in list(self.datagrams) for line in datagram.split("\n")]


def ask(port, source, rows):
    connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(source, 0), timeout=30)
    for row in rows:
        body = json.dumps({"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, len(row)], "data": row}]})
        connection.request("POST", f"/v2/models/{MODEL}/infer", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        if reply.status == 403:
            return True
    return False


def traffic(port):
    draw = random.Random(1)
    row = lambda: [draw.uniform(0, 100) for _ in range(5)]
    for client in range(1, 6):
        ask(port, f"127.0.4.{client}", [row() for _ in range(40)])
    base = row()
    return ask(port, "127.0.4.66", [[*base[:4], float(step)] for step in range(400)])


def without(tags, of):
    return tuple(sorted(tag for tag in tags if not tag.startswith(of)))


def told(lines):
    """Counters added up and gauges as they came last, by name and tags."""
    counters, gauges = collections.Counter(), {}
    for line in lines:
        metric, kind, tags = line.split("|")
        name, value = metric.split(":")
        key = name, without(tags.removeprefix("#").split(","), OF_THE_SENDER)
        if kind == "c":
            counters[key] += float(value)
        else:
            gauges[key] = float(value)
    return dict(counters), gauges


def scraped(admin_port):
    """The same of the check."""
    # build_info bears the tag that Datadog gives every service, which its own integrations may not.
    os.environ["DDEV_SKIP_GENERIC_TAGS_CHECK"] = "true"
    instance = yaml.safe_load(CONF.read_text())["instances"][0]
    instance["openmetrics_endpoint"] = f"http://127.0.0.1:{admin_port}/metrics"
    aggregator.reset()
    error = OpenMetricsBaseCheckV2("checkgate", {}, [instance]).run()
    if error:
        raise SystemExit(f"the check failed: {error}")
    counters, gauges = {}, {}
    for metric in (metric for name in aggregator.metric_names for metric in aggregator.metrics(name)):
        key = metric.name, without(metric.tags, OF_THE_CHECK)
        if metric.type == MONOTONIC_COUNT and metric.value:
            counters[key] = metric.value
        elif metric.type == GAUGE:
            gauges[key] = metric.value
    return counters, gauges


def differences(ours, theirs):
    """Series that one alone has, or with another value."""
    keys = {key for key in {**ours, **theirs} if key[0] not in RESTLESS}
    close = lambda one, other: one is not None and other is not None and abs(one - other) <= 1e-9 * max(1, abs(other))
    return [(key, ours.get(key), theirs.get(key)) for key in sorted(keys) if not close(ours.get(key), theirs.get(key))]


class Caught(DogStatsd):
    """Datadog's client, whose lines go nowhere."""

    def _send_to_server(self, packet, *_, **__):
        self.caught = packet

    def line(self, kind, name, value, tags):
        send = self.increment if kind == "c" else self.gauge
        send(name, value, tags=tags)
        self.flush_buffered_metrics()
        return self.caught.rstrip("\n")


def foreign(lines):
    """Lines that Datadog's client would write otherwise; it writes small numbers with an exponent."""
    client = Caught(disable_telemetry=True, disable_buffering=False, disable_aggregation=True, cardinality=None,
                    origin_detection_enabled=False)
    odd = []
    for line in lines:
        metric, kind, tags = line.split("|")
        name, text = metric.split(":")
        value = float(text) if "." in text else int(text)
        theirs = client.line(kind, name, value, tags.removeprefix("#").split(","))
        their_value = theirs.split("|")[0].removeprefix(f"{name}:")
        if theirs.replace(their_value, text, 1) != line or float(their_value) != value:
            odd.append((line, theirs))
    return odd


def run(binary, folder, agent, address, upstream, tally, road):
    folder.mkdir()
    config = folder / "checkgate.yaml"
    config.write_text(CONFIG.format(model=MODEL, upstream=upstream, agent=address))
    proxy = Proxy(binary, folder / "proxy", ["-c", config])
    try:
        tally.check(traffic(proxy.port), f"{road}: the attacker is refused")
        # Two readings later everything was told of the traffic.
        after = agent.readings + 3
        wait_until(lambda: agent.readings >= after, "three readings after the traffic")
        (counters, gauges), (their_counters, their_gauges) = told(agent.lines()), scraped(proxy.admin_port)
    finally:
        proxy.stop()
    tally.check(counters.get(("checkgate.requests.count", ("code_class:2xx", f"model:{MODEL}")), 0) >= 200,
                f"{road}: {len(counters)} counters and {len(gauges)} gauges came in {len(agent.datagrams)} datagrams")
    apart = differences(counters, their_counters)
    tally.check(not apart, f"{road}: counters are those of Datadog's OpenMetrics check {apart[:5]}")
    apart = differences(gauges, their_gauges)
    tally.check(not apart, f"{road}: gauges are, too {apart[:5]}")
    odd = foreign(agent.lines()[:2000])
    tally.check(not odd, f"{road}: lines are those of Datadog's client {odd[:3]}")
    largest = max(len(datagram.encode()) for datagram in agent.datagrams)
    tally.check(largest <= (1432 if road == "UDP" else 8192), f"{road}: the largest datagram has {largest} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    options = parser.parse_args()
    binary, tally = options.binary.resolve(), Tally()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tariff)
    # A refused client's request is cut short, as it should be.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkgate-dogstatsd-"))
    by_udp = Agent(socket.AF_INET, ("127.0.0.1", 0))
    by_unix = Agent(socket.AF_UNIX, str(folder / "dsd.socket"))
    for road, agent, address in [("UDP", by_udp, "127.0.0.1:%d" % by_udp.socket.getsockname()[1]),
                                 ("a unix socket", by_unix, f"unix:{folder}/dsd.socket")]:
        run(binary, folder / road.split()[-1], agent, address, server.server_address[1], tally, road)
    print(f"{tally.passed} held, {tally.failed} failed")
    sys.exit(tally.failed > 0)


if __name__ == "__main__":
    main()
