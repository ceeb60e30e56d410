"""What telemetry costs the request's thread, in instructions for each request.

checkgate runs under callgrind with one thread for requests. Without telemetry, two runs that differ only in how many
requests they get give the instructions of one: what happens once cancels out, and other threads are not counted. That
number moves by some percent from run to run, for it holds how often a thread had to wait. So what telemetry adds is not
taken as a difference of such numbers: its own functions on the request's thread are counted alone.
"""

import argparse
import http.client
import http.server
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "real-parts"))
from harness import JsonHandler, free_port  # noqa: E402

MODEL = "pricing"
SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = SAMPLED[:-1] + "0"
WARM_UP, FEW, MANY = 100, 100, 500
# What requests that nobody traces may cost more than without telemetry.
MORE_MAX = 0.03

CASES = {"no traceparent": None, "not sampled": UNSAMPLED, "sampled": SAMPLED}
# All that the request's thread does for telemetry; none of them calls another.
OWN = [
    f"checkgate::telemetry::trace::{name}*"
    for name in (
        "Tracing::begin", "Tracing::end", "Trace::header", "Trace::asks_upstream", "Trace::asks_server",
        "Trace::answered",
    )
]


class Anything(JsonHandler):
    """A model, and a collector: both answer the same."""

    def do_POST(self):
        self.body()
        output = {"name": "output", "datatype": "FP64", "shape": [1, 1], "data": [100.0]}
        self.reply({"model_name": MODEL, "outputs": [output]})


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Anything)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def ask(port, requests, traceparent):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/json", "user-agent": "cost"}
    if traceparent:
        headers["traceparent"] = traceparent
    for number in range(requests):
        row = [round(number * 0.37 % 61.0 + field, 3) for field in range(19)]
        body = json.dumps({"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 19], "data": row}]})
        connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 200, reply.status
    connection.close()


def wait_until_ready(process, admin, log):
    """Callgrind takes its time."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"checkgate ended:\n{log.read_text()}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=30)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit("checkgate was not ready within 600 s")


def instructions(binary, upstream, collector, requests, traceparent):
    """Of the request's thread, for a whole run; with a collector, of telemetry's own functions alone."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        port, admin = free_port(), free_port()
        config = {
            "listen": f"127.0.0.1:{port}", "admin": {"listen": f"127.0.0.1:{admin}"}, "threads": 1,
            "state": str(folder / "state"), "findings": str(folder / "findings.jsonl"),
            "models": [{"name": MODEL, "path": f"/v2/models/{MODEL}", "upstream": f"http://127.0.0.1:{upstream}"}],
        }
        if collector:
            config["telemetry"] = {"endpoint": f"http://127.0.0.1:{collector}", "metrics_every": "1h"}
        (folder / "checkgate.yaml").write_text(json.dumps(config))
        command = [
            "valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={folder}/callgrind",
            *(f"--toggle-collect={name}" for name in OWN if collector), binary, "run", "-c", folder / "checkgate.yaml",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"))
        try:
            wait_until_ready(process, admin, folder / "log")
            ask(port, WARM_UP + requests, traceparent)
        finally:
            process.terminate()
            process.wait(timeout=120)
        profiles = [text for text in map(pathlib.Path.read_text, folder.glob("callgrind-*"))]
        ours = profiles if collector else [text for text in profiles if "way::handle" in text]
        return sum(int(total) for text in ours for total in re.findall(r"^(?:summary|totals): (\d+)", text, re.M)[:1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    binary, upstream, collector = arguments.binary.resolve(), serve(), serve()
    few, many = (instructions(binary, upstream, None, requests, None) for requests in (FEW, MANY))
    base = (many - few) / (MANY - FEW)
    print(f"{'without telemetry':<28}{base:>10,.0f} instructions a request", flush=True)
    dear = False
    for case, traceparent in CASES.items():
        added = instructions(binary, upstream, collector, MANY, traceparent) / (WARM_UP + MANY)
        print(f"{'added, ' + case:<28}{added:>10,.0f} instructions a request  {added / base:+.2%}", flush=True)
        if not added:
            raise SystemExit("the profile names none of telemetry's functions; were they inlined?")
        dear = dear or (traceparent != SAMPLED and added > base * MORE_MAX)
    if dear:
        print(f"requests that nobody traces cost over {MORE_MAX:.0%} more")
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
