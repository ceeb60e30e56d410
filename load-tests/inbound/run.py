"""What real senders make of the endpoints for other systems."""

import argparse
import base64
import datetime
import http.client
import json
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile

import standardwebhooks

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "real-parts"))
from harness import Proxy, Tally, answers, free_port, wait_until  # noqa: E402

CLIENT, OTHER = "203.0.113.7", "203.0.113.8"
SIGNED_CLIENT = "203.0.113.9"


class Checkgate(Proxy):
    """The binary with an endpoint for Alertmanager and one for signed messages."""

    def __init__(self, binary, folder):
        folder.mkdir()
        self.secret = secrets.token_hex(32)
        self.signing = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        endpoints = []
        for name, shape, secret in [("alerts", "alertmanager", self.secret), ("signed", "webhook", self.signing)]:
            (folder / name).write_text(secret)
            endpoints.append(
                {"name": name, "shape": shape, "secrets": [{"file": str(folder / name)}], "actions": ["ban"], "lasts": "1h"}
            )
        settings = {"upstream": "http://127.0.0.1:9", "mode": "enforce", "inbound": endpoints}
        (folder / "checkgate.yaml").write_text(json.dumps(settings))
        super().__init__(binary, folder, ["-c", folder / "checkgate.yaml"])

    def blocked(self):
        listed = json.loads(self.ask_admin("/v1/decisions?status=in_force"))["decisions"]
        return {one["client"] for one in listed}

    def decisions(self):
        return len(json.loads(self.ask_admin("/v1/decisions"))["decisions"])

    def counted(self, endpoint, outcome):
        wanted = f'checkgate_inbound_total{{endpoint="{endpoint}",outcome="{outcome}"}} '
        lines = self.ask_admin("/metrics").splitlines()
        return next(int(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    def post(self, path, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        connection.request("POST", path, body=body, headers={"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


class Alertmanager:
    """A real one, which tells its one receiver at once and again after ten seconds."""

    def __init__(self, folder, url):
        folder.mkdir()
        self.port = free_port()
        webhook = {"url": url, "send_resolved": True, "max_alerts": 64}
        timing = {"group_wait": "100ms", "group_interval": "1s", "repeat_interval": "3s"}
        route = {"receiver": "checkgate", "group_by": ["alertname"], **timing}
        config = {"route": route, "receivers": [{"name": "checkgate", "webhook_configs": [webhook]}]}
        (folder / "alertmanager.yml").write_text(json.dumps(config))
        command = [
            "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address=",
        ]
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        wait_until(lambda: answers(self.port, "/-/ready"), "Alertmanager being ready")

    def alert(self, client, ends):
        now = datetime.datetime.now(datetime.timezone.utc)
        alert = {
            "labels": {"alertname": "ModelProbed", "client": client},
            "annotations": {"summary": f"{client} probes the model"},
            "startsAt": (now - datetime.timedelta(minutes=1)).isoformat(),
            "endsAt": (now if ends else now + datetime.timedelta(hours=1)).isoformat(),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/api/v2/alerts", json.dumps([alert]), {"content-type": "application/json"})
        assert connection.getresponse().status == 200

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


def alerts(tally, checkgate, folder):
    manager = Alertmanager(folder, f"http://127.0.0.1:{checkgate.admin_port}/v1/inbound/alerts/{checkgate.secret}")
    try:
        manager.alert(CLIENT, ends=False)
        manager.alert(OTHER, ends=False)
        wait_until(lambda: checkgate.blocked() == {CLIENT, OTHER}, "both clients being blocked")
        tally.check(True, "two firing alerts of Alertmanager block two clients")
        wait_until(lambda: checkgate.counted("alerts", "repeated") >= 2, "Alertmanager telling again")
        tally.check(checkgate.decisions() == 2, "told again, they ban nobody twice")
        manager.alert(CLIENT, ends=True)
        wait_until(lambda: checkgate.blocked() == {OTHER}, "one client being let go")
        tally.check(True, "a resolved alert lets its client go and no other")
        audit = checkgate.log.read_text()
        tally.check(checkgate.secret not in audit, "the secret is in no log")
    finally:
        manager.stop()


def signed(tally, checkgate):
    signer = standardwebhooks.Webhook(checkgate.signing)
    body = json.dumps({"type": "client.ban", "data": {"client": SIGNED_CLIENT, "seconds": 600}})

    def headers(message, when):
        stamp = str(int(when.timestamp()))
        return {"webhook-id": message, "webhook-timestamp": stamp, "webhook-signature": signer.sign(message, when, body)}

    now = datetime.datetime.now(datetime.timezone.utc)
    first = headers("msg_1", now)
    status, said = checkgate.post("/v1/inbound/signed", body, first)
    tally.check(status == 200 and SIGNED_CLIENT in checkgate.blocked(), f"what the library signs is taken ({status})")
    status, said = checkgate.post("/v1/inbound/signed", body, first)
    tally.check(status == 409 and "mend" in said, f"a copy is refused ({status})")
    status, said = checkgate.post("/v1/inbound/signed", body, headers("msg_1", now + datetime.timedelta(seconds=1)))
    tally.check(status == 200, f"a further attempt is answered ({status})")
    status, said = checkgate.post("/v1/inbound/signed", body + " ", headers("msg_2", now))
    tally.check(status == 401, f"another body is not what was signed ({status})")
    status, said = checkgate.post("/v1/inbound/signed", body, headers("msg_3", now - datetime.timedelta(minutes=6)))
    tally.check(status == 400, f"what was signed six minutes ago is too old ({status})")
    tally.check(checkgate.counted("signed", "done") == 1, "it was done once")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    binary = parser.parse_args().binary.resolve()
    tally = Tally()
    scratch = pathlib.Path(tempfile.mkdtemp())
    checkgate = Checkgate(binary, scratch / "checkgate")
    try:
        alerts(tally, checkgate, scratch / "alertmanager")
        signed(tally, checkgate)
    finally:
        checkgate.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{tally.passed} held, {tally.failed} did not")
    return 1 if tally.failed else 0


sys.exit(main())
