"""What nginx and Envoy do with the answers of checkgate's authz listener."""

import argparse
import http.client
import http.server
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "real-parts"))
from harness import Proxy, Tally, free_port, wait_until  # noqa: E402

SHIPPED = HERE.parent.parent / "deploy" / "authz"
PATH = "/v2/models/pricing/infer"
CLIENT, OTHER = "127.0.70.1", "127.0.70.2"
TAG = "x-checkgate-decision"


class Model(http.server.BaseHTTPRequestHandler):
    """Remembers the headers of what it was asked."""

    protocol_version = "HTTP/1.1"
    asked = []

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        Model.asked.append({name.lower(): value for name, value in self.headers.items()})
        body = b'{"outputs":[]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Checkgate(Proxy):
    """The binary with an authz listener."""

    def __init__(self, binary, folder, port, extra=None):
        folder.mkdir(exist_ok=True)
        settings = {
            "upstream": "http://127.0.0.1:9",
            "mode": "enforce",
            "policy": {"requests_per_minute": 2},
            "clients": {"trusted_proxies": ["127.0.0.1"]},
            "authz": {"listen": f"127.0.0.1:{port}"},
            **(extra or {}),
        }
        config = folder / "checkgate.yaml"
        config.write_text(json.dumps(settings))
        super().__init__(binary, folder, ["-c", config])
        self.token = (folder / "state" / "admin.token").read_text().strip()

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        connection.request(method, path, body=json.dumps(body) if body else None, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        return json.loads(text) if text else {}

    def decide(self, action, client=CLIENT):
        order = {"client": client, "action": action, "seconds": 600, "why": "a test"}
        return self.call("POST", "/v1/decisions", order)["id"]

    def lift(self, decision):
        self.call("DELETE", f"/v1/decisions/{decision}")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Asking:
    """A proxy that asks, on a port of its own, with a shipped file."""

    def __init__(self, folder, checkgate_port, model_port):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.ports = {"8080": self.port, "8767": checkgate_port, "9000": model_port}

    def shipped(self, name):
        text = (SHIPPED / name).read_text()
        for written, port in self.ports.items():
            text = text.replace(written, str(port))
        return text

    def start(self, command):
        log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        wait_until(self.is_up, f"{command[0]} accepting connections")

    def is_up(self):
        if self.process.poll() is not None:
            raise SystemExit((self.folder / "log").read_text())
        try:
            return self.ask(OTHER)[0] > 0
        except OSError:
            return False

    def ask(self, client, headers=None):
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(client, 0))
        connection.request("POST", PATH, body=b"{}", headers={"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


class Nginx(Asking):
    name = "nginx"

    def run(self):
        config = self.folder / "nginx.conf"
        server = self.shipped("nginx.conf").replace(f"listen {self.port}", f"listen 127.0.0.1:{self.port}")
        config.write_text(
            f"daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log; worker_processes 1;\n"
            f"events {{}}\nhttp {{ access_log off; client_body_temp_path {self.folder}; proxy_temp_path {self.folder};\n"
            f"fastcgi_temp_path {self.folder}; uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};\n{server}\n}}\n"
        )
        self.start(["nginx", "-c", str(config), "-p", str(self.folder)])


class Envoy(Asking):
    name, file = "Envoy over HTTP", "envoy-http.yaml"

    def text(self):
        return self.shipped(self.file)

    def run(self):
        config = self.folder / "envoy.yaml"
        config.write_text(self.text())
        envoy = [str(HERE / ".venv/bin/envoy"), "-c", str(config), "--disable-hot-restart", "--concurrency", "1"]
        self.start([*envoy, "--log-level", "warning"])


class EnvoyGrpc(Envoy):
    name, file = "Envoy over gRPC", "envoy-grpc.yaml"


class EnvoyInTheTrap(Envoy):
    """Without the one line that names the header in which the client stands."""

    name = "Envoy over HTTP without allowed_headers"

    def text(self):
        return super().text().replace("- {exact: x-forwarded-for}", "- {exact: x-nothing}")


def refused(tally, proxy, checkgate):
    block = checkgate.decide("block")
    asked = len(Model.asked)
    status, headers, body = proxy.ask(CLIENT)
    tally.check(status == 403, f"{proxy.name}: a blocked client gets 403 ({status})")
    tally.check(json.loads(body or b"{}").get("decision_id") == block, f"{proxy.name}: the body names its decision")
    tally.check(headers.get("content-type") == "application/problem+json", f"{proxy.name}: as a problem document")
    tally.check(headers.get("retry-after") == "600", f"{proxy.name}: with Retry-After")
    tally.check(len(Model.asked) == asked, f"{proxy.name}: the model was not asked")
    forged = proxy.ask(CLIENT, {"x-forwarded-for": OTHER, "forwarded": f"for={OTHER}", "x-original-uri": "/free"})
    tally.check(forged[0] == 403, f"{proxy.name}: whatever a blocked client writes, it stays who it is ({forged[0]})")
    blamed = proxy.ask(OTHER, {"x-forwarded-for": CLIENT})
    tally.check(blamed[0] == 200, f"{proxy.name}: nobody takes the blame for another ({blamed[0]})")
    # Of what a proxy passes on, nothing that a client writes may turn a refusal into a failure that lets it through.
    odd = [{"content-type": "application/grpc"}, {"connection": "upgrade", "upgrade": "h2c"}, {"x-long": "x" * 7000},
           {"x-odd": "\x80\xff"}, {"expect": "nothing"}, {"te": "gzip"}, {"x-checkgate-throttle-as": "403"}]
    before = len(Model.asked)
    told = [proxy.ask(CLIENT, headers) for headers in odd]
    # Envoy tells a gRPC client of its refusal with the status 200.
    passed = [status for status, headers, _ in told if status == 200 and headers.get("grpc-status") != "7"]
    tally.check(passed == [] and len(Model.asked) == before, f"{proxy.name}: no odd header lets it through ({passed})")
    met = [one["requests"] for one in json.loads(checkgate.ask_admin("/v1/decisions"))["active"]]
    tally.check(met[0] >= 2 + 4, f"{proxy.name}: each counts as met ({met})")
    checkgate.lift(block)
    status = proxy.ask(CLIENT)[0]
    tally.check(status == 200, f"{proxy.name}: once lifted it passes ({status})")


def weaker(tally, proxy, checkgate):
    throttle = checkgate.decide("throttle")
    answers = [proxy.ask(CLIENT) for _ in range(3)]
    statuses = [status for status, _, _ in answers]
    tally.check(statuses == [200, 200, 429], f"{proxy.name}: two a minute pass, the third does not ({statuses})")
    tally.check(answers[2][1].get("retry-after") == "60", f"{proxy.name}: with Retry-After")
    checkgate.lift(throttle)
    tag = checkgate.decide("tag")
    proxy.ask(CLIENT)
    tally.check(Model.asked[-1].get(TAG) == tag, f"{proxy.name}: the model server is told of a tag")
    checkgate.lift(tag)
    proxy.ask(CLIENT, {TAG: "d-0000000000000001"})
    tally.check(Model.asked[-1].get(TAG, "") == "", f"{proxy.name}: and of nothing that a client wrote")


def fail_open(tally, proxy, checkgate):
    checkgate.decide("block")
    tally.check(proxy.ask(CLIENT)[0] == 403, f"{proxy.name}: blocked once more")
    checkgate.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    statuses = [proxy.ask(client)[0] for client in [CLIENT, OTHER]]
    took = time.monotonic() - began
    tally.check(statuses == [200] * 2, f"{proxy.name}: checkgate stands still and requests flow ({statuses})")
    tally.check(took < 2, f"{proxy.name}: each after 200 ms or so (both in {took:.2f} s)")
    checkgate.process.send_signal(signal.SIGCONT)
    checkgate.kill()
    statuses = [proxy.ask(client)[0] for client in [CLIENT, OTHER] * 5]
    tally.check(statuses == [200] * 10, f"{proxy.name}: checkgate is killed and requests flow ({statuses})")


def one(tally, kind, binary, folder, model_port):
    port = free_port()
    checkgate = Checkgate(binary, folder / "checkgate", port)
    proxy = kind(folder / "proxy", port, model_port)
    proxy.run()
    try:
        status = proxy.ask(CLIENT)[0]
        tally.check(status == 200, f"{proxy.name}: a client that nothing stands on passes ({status})")
        refused(tally, proxy, checkgate)
        weaker(tally, proxy, checkgate)
        metrics = checkgate.ask_admin("/metrics")
        tally.check("checkgate_authz_untrusted_total 0\n" in metrics, f"{proxy.name}: it is trusted")
        fail_open(tally, proxy, checkgate)
    finally:
        proxy.stop()
        checkgate.kill()


def in_the_trap(tally, binary, folder, model_port):
    port = free_port()
    checkgate = Checkgate(binary, folder / "checkgate", port)
    proxy = EnvoyInTheTrap(folder / "proxy", port, model_port)
    proxy.run()
    try:
        checkgate.decide("block")
        status = proxy.ask(CLIENT)[0]
        tally.check(status == 200, f"{proxy.name}: a blocked client passes, which is the trap ({status})")
    finally:
        proxy.stop()
        checkgate.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    binary = parser.parse_args().binary.resolve()
    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    tally = Tally()
    scratch = pathlib.Path(tempfile.mkdtemp())
    try:
        for number, kind in enumerate([Nginx, Envoy, EnvoyGrpc]):
            folder = scratch / str(number)
            folder.mkdir()
            one(tally, kind, binary, folder, model.server_port)
        folder = scratch / "trap"
        folder.mkdir()
        in_the_trap(tally, binary, folder, model.server_port)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{tally.passed} held, {tally.failed} did not")
    return 1 if tally.failed else 0


sys.exit(main())
