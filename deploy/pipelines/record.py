"""Records a client that moves one field, in front of a model server of two lines, for check.sh.

Gets the program and a folder; leaves `recording` and `checkgate.yaml` in the folder. What the client calls its field is
markup, so that every form has to keep it in its place.
"""

import http.client
import http.server
import json
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

FIELD = "</td><script>alert(1)</script>&\"'"
PATIENCE = 30


class Model(http.server.BaseHTTPRequestHandler):
    """Answers every question with one price."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        answer = json.dumps({"predictions": [100]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def ask(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {"content-type": "application/json"}
    connection.request("POST" if body else "GET", path, body=body, headers=headers)
    return connection.getresponse().status


def wait_until_ready(port):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if ask(port, "/readyz") == 200:
                return
        except OSError:
            time.sleep(0.05)
    sys.exit("checkgate was not ready in time")


def main(binary, folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    listen, admin = free_port(), free_port()
    config = folder / "checkgate.yaml"
    config.write_text(
        f"upstream: http://127.0.0.1:{server.server_port}\nclients: {{identity: ip}}\n"
        "models:\n  - {name: pricing, path: /invocations}\n"
    )
    command = [binary, "run", "-c", config, "--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{admin}"]
    command += ["--state", folder / "state", "--findings", folder / "findings", "--record", folder / "recording"]
    with (folder / "log").open("w") as log:
        checkgate = subprocess.Popen(command, stderr=log)
    wait_until_ready(admin)
    for step in range(20):
        body = json.dumps({"dataframe_records": [{"size": 7, FIELD: step}]})
        assert ask(listen, "/invocations", body) == 200
    checkgate.send_signal(signal.SIGTERM)
    if checkgate.wait(PATIENCE):
        sys.exit((folder / "log").read_text())


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
