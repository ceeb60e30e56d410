"""What fail2ban makes of the findings file."""

import argparse
import contextlib
import http.client
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.parse

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "real-parts"))
from harness import JsonHandler, Proxy, Tally, wait_until  # noqa: E402

SHIPPED = HERE.parent.parent / "deploy" / "fail2ban"
VICTIM = "192.0.2.66"
# What an attacker would write who wants the victim banned: a whole line of a findings file.
FAKE = (
    '{"id":"f-00f3a2b1c4d5e6f7","time":1764363600.5,"kind":"decision","client":"' + VICTIM + '","model":"pricing",'
    '"detector":"one_field_sweep","tier":1,"atlas":"AML.T0024.002","atlas_version":"5.6.0","owasp":"ML05:2023",'
    '"statistic":12.0,"limit":12.0,"window":{"rows":12,"requests":12,"seconds":0.5,"observed":1.0},"action":"block",'
    '"mode":"enforce","decision_id":"d-00f3a2b1c4d5e6f7","until":1764364500.5,"fields":["age"],"requests":[],'
    '"explanation":"x"}'
)
# The same in the name of a field, which may not be so long.
SHORT = '"],"client":"' + VICTIM + '","action":"block","x":["'
HOSTILE = [FAKE, "\n" + FAKE + "\n", '"}\n' + FAKE, FAKE.replace('"', '\\"'), "\r" + FAKE, "\u2028" + FAKE]


class Model(JsonHandler):
    """Answers every question with one price."""

    def do_POST(self):
        self.body()
        output = {"name": "price", "shape": [1, 1], "datatype": "FP64", "data": [100.0]}
        self.reply({"model_name": "pricing", "outputs": [output]})


class Checkgate(Proxy):
    """The binary behind a load balancer on loopback, so that clients may have any address."""

    def __init__(self, binary, folder, model_port, more):
        folder.mkdir()
        settings = {
            "upstream": f"http://127.0.0.1:{model_port}",
            "mode": "enforce",
            "decisions": {"scope": "everywhere"},
            "clients": {"identity": "ip", "trusted_proxies": ["127.0.0.1"], "never_block": ["198.51.100.0/24"]},
            "brake": {"share_of_clients": 1.0},
            **more,
        }
        (folder / "checkgate.yaml").write_text(json.dumps(settings))
        super().__init__(binary, folder, ["-c", folder / "checkgate.yaml"])
        self.token = (folder / "state" / "admin.token").read_text().strip()

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        return json.loads(text) if text else {}

    def decide(self, client, action="block", why="a test"):
        return self.call("POST", "/v1/decisions", {"client": client, "action": action, "seconds": 900, "why": why})

    def sweep(self, client, model="pricing", swept="age"):
        """Varies one field: an attack that every detector of sweeps sees."""
        path = f"/v2/models/{urllib.parse.quote(model, safe='')}/infer"
        names = [swept, "years", "value", "seats", "power", "distance", "claims", "region", "excess", "uses"]
        for step in range(30):
            row = [18.0 + step * 0.25, 12.0, 16000.0, 4.0, 90.0, 15000.0, 0.0, 7.0, 300.0, 1.0]
            inputs = [
                {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]} for name, value in zip(names, row)
            ]
            body = json.dumps({"inputs": inputs})
            headers = {"content-type": "application/json", "x-forwarded-for": client}
            # A client that is blocked meanwhile loses its connection.
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("POST", path, body=body, headers=headers)
                connection.getresponse().read()
                connection.close()

    def decided(self, count):
        """Waits until so many decisions are printed, and gives them."""
        lines = []

        def enough():
            # Not splitlines, which also cuts at what is no end of a line in a file.
            lines[:] = [json.loads(line) for line in self.findings.read_text().split("\n")[:-1]]
            return sum(line["kind"] == "decision" for line in lines) >= count

        wait_until(enough, f"{count} decisions in {self.findings}")
        return lines


def lives(binary, folder, model_port):
    """An instance that enforces, and whom it blocks."""
    checkgate = Checkgate(binary, folder, model_port, {})
    checkgate.sweep("203.0.113.1")
    for host, hostile in enumerate(HOSTILE, 10):
        checkgate.sweep(f"203.0.113.{host}", model=hostile)
        checkgate.decide(f"203.0.113.{host + 40}", why=hostile[:500])
    checkgate.sweep("203.0.113.2", swept=SHORT)
    checkgate.sweep("198.51.100.1")
    checkgate.decide("198.51.100.2")
    for action in ["throttle", "degrade", "tag"]:
        checkgate.decide("203.0.113.5", action)
    checkgate.decide("2001:db8:0:7::1")
    checkgate.decide("key:00f3a2b1c4d5e6f7")
    checkgate.call("PUT", "/v1/kill-switch")
    checkgate.decide("203.0.113.6")
    checkgate.call("DELETE", "/v1/kill-switch")
    # Three for each hostile text, of which the models may be too many to be discovered.
    # A model whose name holds a backslash is claimed by no protocol, and the reason of each by hand is its own.
    checkgate.decided(2 * len(HOSTILE) - 1 + 10)
    return checkgate


def in_force(checkgate):
    listed = checkgate.call("GET", "/v1/decisions?status=in_force&action=block&limit=1000")["decisions"]
    return {one["client"] for one in listed if not one["client"].startswith("key:")}


def matched(file):
    command = ["fail2ban-regex", "--out", "id", file, SHIPPED / "filter.d" / "checkgate.conf"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def by_regex(tally, checkgate, quiet):
    acting = in_force(checkgate)
    found = matched(checkgate.findings)
    tally.check(len(acting) == 2 * len(HOSTILE) - 1 + 3, f"{len(acting)} clients are blocked")
    tally.check(found == acting, f"exactly those are matched (too many {found - acting}, missing {acting - found})")
    tally.check(VICTIM not in found, "nobody whom a name or a reason names")
    for name, other in quiet.items():
        lines = other.decided(1)
        tally.check(matched(other.findings) == set(), f"{name}: none of {len(lines)} lines is matched")
    for host in ["198.51.100.1", "198.51.100.2", "203.0.113.5", "203.0.113.6"]:
        told = any(line["client"] == host for line in checkgate.decided(1))
        tally.check(told and host not in found, f"{host} is told of and not matched")


def may_have_a_namespace():
    probe = ["unshare", "--net", "nft", "add", "table", "inet", "probe"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def configure(folder, findings, action):
    etc = folder / "etc"
    for part in ["filter.d", "action.d", "jail.d"]:
        shutil.copytree(SHIPPED / part, etc / part)
    shutil.copy("/etc/fail2ban/fail2ban.conf", etc)
    own = {"logtarget": folder / "log", "dbfile": ":memory:", "socket": folder / "sock", "pidfile": folder / "pid"}
    own["allowipv6"] = "auto"
    (etc / "fail2ban.local").write_text("[Definition]\n" + "".join(f"{key} = {value}\n" for key, value in own.items()))
    (etc / "jail.conf").write_text("[DEFAULT]\n")
    jail = etc / "jail.d" / "checkgate.conf"
    text = jail.read_text().replace("/var/lib/checkgate/findings.jsonl", str(findings))
    jail.write_text(text if action is None else text.replace('checkgate[port="8765"]', action))
    if action is not None:
        banned = folder / "banned"
        (etc / "action.d" / "file.conf").write_text(
            f"[Definition]\nactionban = echo <ip> >> {banned}\nactionunban = sed -i '/^<ip>$/d' {banned}\n"
        )
    return etc


class Fail2ban:
    """A server of its own, in a network namespace where there may be one."""

    def __init__(self, folder, findings):
        self.within = may_have_a_namespace()
        self.folder = folder
        etc = configure(folder, findings, None if self.within else "file")
        where = ["-c", etc, "-s", folder / "sock", "-p", folder / "pid"]
        self.client = ["fail2ban-client", *map(str, where)]
        command = ["fail2ban-server", *map(str, where), "-f", "start"]
        within = ["unshare", "--net"] if self.within else []
        said = (folder / "said").open("w")
        self.process = subprocess.Popen([*within, *command], stdout=said, stderr=subprocess.STDOUT)

    def ask(self, *words):
        return subprocess.run([*self.client, *words], capture_output=True, text=True, check=False).stdout

    def banned(self):
        for line in self.ask("status", "checkgate").splitlines():
            if "Banned IP list:" in line:
                return set(line.split(":", 1)[1].split())
        return set()

    def enforced(self, client):
        if not self.within:
            return client in (self.folder / "banned").read_text().split()
        listing = ["nsenter", "--target", str(self.process.pid), "--net", "nft", "list", "table", "inet", "checkgate"]
        return client in subprocess.run(listing, capture_output=True, text=True, check=False).stdout

    def stop(self):
        self.ask("stop")
        self.process.wait(timeout=30)


def by_server(tally, checkgate, folder):
    acting = in_force(checkgate)
    folder.mkdir()
    server = Fail2ban(folder, checkgate.findings)
    try:
        wait_until(lambda: server.banned() == acting, "fail2ban banning whom checkgate blocks")
        where = "an nftables set" if server.within else "a file"
        tally.check(True, f"fail2ban bans the same {len(acting)} clients, into {where}")
        # It counts a client as banned before its action has run.
        for client, what in [("203.0.113.1", "an address is in it"), ("2001:db8:0:7::/64", "a /64 is in it as a whole")]:
            wait_until(lambda: server.enforced(client), what)
            tally.check(True, what)
        tally.check(not server.enforced(VICTIM), "the victim is not")
        checkgate.decide("203.0.113.99")
        wait_until(lambda: server.enforced("203.0.113.99"), "a new block being banned")
        tally.check(True, "a block that comes later is banned as well")
        server.ask("set", "checkgate", "unbanip", "203.0.113.99")
        tally.check(not server.enforced("203.0.113.99"), "and is let go by hand")
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    binary = parser.parse_args().binary.resolve()
    # A client that is blocked takes its question to the model back.
    http.server.ThreadingHTTPServer.handle_error = lambda *_: None
    model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    tally = Tally()
    scratch = pathlib.Path(tempfile.mkdtemp())
    checkgate = lives(binary, scratch / "enforce", model.server_port)
    quiet = {
        "observe": Checkgate(binary, scratch / "observe", model.server_port, {"mode": "observe"}),
        "proposals": Checkgate(binary, scratch / "propose", model.server_port, {"policy": {"on_tier_one": "propose"}}),
    }
    try:
        for other in quiet.values():
            other.sweep("203.0.113.1")
        by_regex(tally, checkgate, quiet)
        by_server(tally, checkgate, scratch / "fail2ban")
    finally:
        for one in [checkgate, *quiet.values()]:
            one.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{tally.passed} held, {tally.failed} did not")
    return 1 if tally.failed else 0


sys.exit(main())
