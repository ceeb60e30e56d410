"""Attacks with real tools, through the real binary, on a real model; exit code 1 where anything is missed.

Each attacker is one source address that knows nothing but the endpoint: ZOO of adversarial-robustness-toolbox on the
digits, and a one-at-a-time sweep of a motor tariff. Both must be blocked by a detector that looks at content, while
honest clients that send as many distinct rows in the same run are served to the end.
"""

import argparse
import http.client
import json
import pathlib
import sys
import tempfile
import threading
import warnings

import numpy as np
from art.attacks.evasion import ZooAttack
from art.estimators.classification import BlackBoxClassifier

import model_server
from harness import Proxy, Tally

# The detectors that judge what is asked, not how much.
CONTENT_DETECTORS = {"one_field_sweep", "field_by_field"}


class Blocked(Exception):
    """The proxy refused the client."""


class Client:
    """One client at one loopback address."""

    def __init__(self, port, source, beside=None):
        """`beside` is called after each answered row: it lets another client ask in between."""
        self.source = source
        self.beside = beside
        self.connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(source, 0), timeout=60)
        self.rows = 0
        self.distinct = set()
        self.refusal = None

    def predict(self, model, rows):
        """Predictions for `rows`, one request a row."""
        return np.vstack([self.predict_row(model, row) for row in np.atleast_2d(rows)])

    def predict_row(self, model, row):
        tensor = {"name": "input", "datatype": "FP64", "shape": [1, len(row)], "data": [float(x) for x in row]}
        body = json.dumps({"inputs": [tensor]})
        self.connection.request("POST", f"/v2/models/{model}/infer", body, {"content-type": "application/json"})
        response = self.connection.getresponse()
        content = response.read()
        if response.status == 403:
            self.refusal = json.loads(content)
            raise Blocked(self.source)
        if response.status != 200:
            raise RuntimeError(f"{self.source}: {response.status} {content[:200]!r}")
        self.rows += 1
        self.distinct.add(body)
        if self.beside:
            self.beside()
        return json.loads(content)["outputs"][0]["data"]


def attack_by_zoo(client):
    """ZOO searches the smallest change that makes the digits model err, from answers alone."""
    _, pixels, _, _ = model_server.digits()
    classifier = BlackBoxClassifier(
        lambda x: client.predict("digits", x), input_shape=(64,), nb_classes=10, clip_values=(0.0, 1.0)
    )
    attack = ZooAttack(
        classifier, max_iter=40, nb_parallel=16, batch_size=1, binary_search_steps=2,
        use_resize=False, use_importance=False, variable_h=0.02, verbose=False,
    )
    for pixel_row in pixels:
        attack.generate(x=pixel_row.reshape(1, -1).astype(np.float32))


def attack_by_sweep(client):
    """A competitor reads the tariff: one customer, one field after the other moved through its range."""
    base = model_server.portfolio(1, seed=99)[0]
    grid = {0: range(18, 80, 2), 2: range(5000, 60000, 2500), 4: range(40, 200, 8), 5: range(4000, 40000, 1500)}
    for field, values in grid.items():
        for value in values:
            row = base.copy()
            row[field] = value
            client.predict_row("pricing", row)


class HonestClient:
    """Every row stands for a different customer or picture. It goes on where it is refused, and remembers that."""

    def __init__(self, port, source, model):
        self.client = Client(port, source)
        self.model = model
        self.rows = iter(honest_rows(model))

    def ask(self):
        try:
            self.client.predict_row(self.model, next(self.rows))
        except Blocked:
            pass


def honest_rows(model):
    if model == "pricing":
        return model_server.portfolio(2000, seed=5)
    return model_server.digits()[1]


def run_attack(tally, proxy, name, attack, source, model):
    """Runs an attack; after each of its rows an honest client at another address sends one."""
    honest = HonestClient(proxy.port, source.replace("127.0.66.", "127.0.77."), model)
    attacker = Client(proxy.port, source, beside=honest.ask)
    try:
        attack(attacker)
    except Blocked:
        pass
    tally.check(attacker.refusal is not None, f"{name}: refused with 403 after {attacker.rows} answered rows")
    decision = proxy.block_of(source)
    tally.check(decision is not None and decision["detector"] in CONTENT_DETECTORS, f"{name}: {told(decision)}")
    while len(honest.client.distinct) < len(attacker.distinct) and honest.client.refusal is None:
        honest.ask()
    tally.check(
        honest.client.refusal is None and proxy.told_block_of(honest.client.source) is None,
        f"{name}: the honest client was served all of its {len(honest.client.distinct)} distinct rows, "
        f"the attacker {len(attacker.distinct)}",
    )


def told(decision):
    """A decision in one line for people."""
    if decision is None:
        return "no decision"
    rows, requests = decision["window"]["rows"], decision["window"]["requests"]
    return f"blocked by {decision['detector']} at row {rows}, request {requests}: {decision['explanation']}"


def run(binary):
    tally = Tally()
    server = model_server.serve(0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        upstream = f"http://127.0.0.1:{server.server_address[1]}"
        arguments = ["--upstream", upstream, "--mode", "enforce", "--client", "ip"]
        proxy = Proxy(binary, pathlib.Path(folder), arguments)
        try:
            run_attack(tally, proxy, "ZOO on digits", attack_by_zoo, "127.0.66.1", "digits")
            run_attack(tally, proxy, "price sweep", attack_by_sweep, "127.0.66.2", "pricing")
        finally:
            proxy.stop()
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the checkgate binary")
    sys.exit(run(parser.parse_args().binary))
