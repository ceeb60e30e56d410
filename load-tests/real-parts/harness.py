"""What every run with real parts needs: free ports, patience, the binary, and a tally of what held."""

import http.client
import http.server
import json
import random
import socket
import subprocess
import time

PATIENCE_SECONDS = 60


def free_port():
    """A port below those that the system gives to clients, so that no connection takes it before a server does. It is
    drawn, so that runs beside each other do not meet."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(ready, what):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.05)
    raise SystemExit(f"{what} did not happen within {PATIENCE_SECONDS} s")


def answers(port, path):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


class JsonHandler(http.server.BaseHTTPRequestHandler):
    """What a model server of a test answers by: JSON, on connections that stay, and nothing on the terminal."""

    protocol_version = "HTTP/1.1"

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Proxy:
    """The binary with `arguments`, in `folder`, on a free port or on `listen`."""

    def __init__(self, binary, folder, arguments, listen=None):
        folder.mkdir(exist_ok=True)
        self.port, self.admin_port = free_port(), free_port()
        self.findings = folder / "findings.jsonl"
        self.log = folder / "checkgate.log"
        self.state = folder / "state"
        command = [
            binary, "run", *arguments,
            "--listen", listen or f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}",
            "--state", self.state, "--findings", self.findings,
        ]
        self.process = subprocess.Popen(command, stderr=self.log.open("w"), stdout=subprocess.DEVNULL)
        wait_until(self.is_ready, "checkgate being ready")

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"checkgate ended:\n{self.log.read_text()}")
        return answers(self.admin_port, "/readyz")

    def block_of(self, source):
        """The decision that blocked `source`, or nothing. A block acts at once; its words come once they are synced."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if block := self.told_block_of(source):
                return block
            time.sleep(0.05)
        return None

    def told_block_of(self, source):
        for line in self.findings.read_text().splitlines():
            record = json.loads(line)
            if record["kind"] == "decision" and record["client"] == source and record["action"] == "block":
                return record
        return None

    def decide(self, client, action):
        """Has an operator decide on a client."""
        token = (self.state / "admin.token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        asked = {"client": client, "action": action, "seconds": 900, "why": "a check"}
        connection.request("POST", "/v1/decisions", json.dumps(asked), headers)
        answer = connection.getresponse()
        if answer.status >= 300:
            raise SystemExit(f"no decision on {client}: {answer.read()!r}")

    def ask_admin(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    def stop(self):
        """Its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE_SECONDS)


class Tally:
    """What held and what did not."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, held, text):
        held = bool(held)
        self.passed += held
        self.failed += not held
        print(f"{'ok    ' if held else 'FAILED'} {text}", flush=True)
