"""Attacks at work, straight and through the real binary: what the attacker has when it is stopped, beside what it has
unhindered after as many questions. See run.sh.

Each attacker is an address of its own and knows the endpoint, the ranges of values and some rows of its own. Straight, it
asks the model itself. With `enforce` it asks through checkgate until it is refused. With `degrade` it is never refused, and
asks as often as straight; delays are left out and counted, so that what it has is known after as many questions and after
as much time. Answers are live in all three: every question follows from the answers before.
"""

import argparse
import http.client
import json
import os
import pathlib
import secrets
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, field

import numpy as np

import attacks
import report
import servers
import world as worlds
from harness import Proxy  # noqa: E402

HONEST_ROWS = 300
# What a row costs a degraded client by default (`policy.delay`, `delay_max`, `step_rows`), in seconds; the runs leave it out,
# the report counts it.
DELAY, DELAY_MAX, STEP_ROWS = 0.5, 30, 5
# The time after which is asked what a degraded attacker has, in seconds.
A_WHILE = 600


class Over(Exception):
    """The budget is spent, or the proxy refused."""


def paid(rows):
    """When each of so many rows is answered after the decision, asked one by one as soon as the one before is: in seconds."""
    moments, now, standing, mark = [], 0.0, 0, 0.0
    for _ in range(rows):
        # A row is forgotten in twice the longest delay.
        gone = min(standing, int((now - mark) // (2 * DELAY_MAX)))
        standing, mark = standing - gone, now if gone == standing else mark + gone * 2 * DELAY_MAX
        now += min(DELAY * 2 ** (standing // STEP_ROWS), DELAY_MAX)
        standing += 1
        moments.append(now)
    return moments


class Ask:
    """Questions of one row, in order, and their answers; `over` says how it ended."""

    def __init__(self, send, budget, start):
        self.send, self.budget, self.start = send, budget, start
        self.rows, self.answers, self.sent = [], [], []

    def __call__(self, rows):
        return np.vstack([self.one(np.asarray(row, dtype=float)) for row in rows])

    def one(self, row):
        if len(self.rows) >= self.budget:
            raise Over("budget")
        self.sent.append(time.time())
        answer = self.send(row)
        self.rows.append(row)
        self.answers.append(answer)
        return answer

    def log(self):
        return np.array(self.rows), np.array(self.answers)


class Client:
    """One client of the proxy, at one loopback address."""

    def __init__(self, port, source, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, source_address=(source, 0), timeout=120)
        self.server = server

    def __call__(self, row):
        body = json.dumps(self.server.question([float(x) for x in row]))
        self.connection.request("POST", self.server.path, body, {"content-type": "application/json"})
        response = self.connection.getresponse()
        content = response.read()
        if response.status == 403:
            raise Over("refused")
        if response.status != 200:
            raise SystemExit(f"{self.server.path}: {response.status} {content[:200]!r}")
        return np.array(self.server.answer(json.loads(content)), dtype=float)


@dataclass
class Run:
    """What came of one attack on one model, from one starting row."""

    world: str
    family: str
    attack: str
    kept_apart: bool
    straight: float | None = None
    straight_at_block: float | None = None
    rows: int = 0
    at_block: float | None = None
    answered: int = 0
    blocked: bool = False
    block_by: str = ""
    first_row: int | None = None
    first_by: str = ""
    block_row: int | None = None
    degraded: float | None = None
    degraded_from: int | None = None
    # What it has a while after the decision, how many rows that are, and how long all of them take.
    degraded_a_while: float | None = None
    rows_a_while: int = 0
    degraded_seconds: float = 0.0
    curves: dict = field(default_factory=dict)


def best(world, family, ask, until=None):
    """What the attacker has after its first `until` questions: the nearest row that the model itself answers otherwise, the
    lowest price as a part of its own, or how well a copy agrees. Nothing where it has nothing."""
    rows, answers = ask.log()
    rows, answers = rows[:until], answers[:until]
    if not len(rows):
        return None
    if family == "evasion":
        other = world.labels(rows) != world.labels(ask.start[None])[0]
        return float(world.apart(rows[other], ask.start).min()) if other.any() else None
    if family == "price":
        return float(world.predict(rows).min() / world.predict(ask.start[None])[0, 0])
    return worlds.copy_of(world, rows, answers)


def curve(world, family, ask):
    """What the attacker has after 10, 20, 40 ... questions."""
    marks, until = [], 10
    while until < len(ask.rows):
        marks.append((until, best(world, family, ask, until)))
        until = int(until * (2.2 if family == "extraction" else 1.25))
    return [*marks, (len(ask.rows), best(world, family, ask))]


def attacked(world, attack, ask, seed):
    try:
        attack(world, ask, seed)
    except Over as over:
        return str(over)
    return "done"


class Gates:
    """checkgate in front of a model, once with `enforce` and once with `degrade`."""

    def __init__(self, binary, folder, world, served_by):
        folder.mkdir()
        self.server = servers.KINDS[served_by](world, folder)
        self.model = {
            "name": world.name, "path": self.server.path, "protocol": self.server.protocol,
            "reference": str(world.write_reference(folder)),
        }
        self.proxies = {
            "enforce": self.proxy(binary, folder, "enforce", {}),
            "degrade": self.proxy(binary, folder, "degrade", {"on_tier_one": "degrade", "delay": "0s"}),
        }
        self.sources = 0

    def proxy(self, binary, folder, name, policy):
        config = {
            "upstream": f"http://127.0.0.1:{self.server.port}", "mode": "enforce", "policy": policy,
            "clients": {"identity": "ip"}, "brake": {"share_of_clients": 1}, "models": [self.model],
        }
        path = folder / f"{name}.json"
        path.write_text(json.dumps(config))
        return Proxy(binary, folder / name, ["--config", path])

    def source(self):
        self.sources += 1
        high, low = divmod(self.sources, 250)
        return f"127.0.{66 + high}.{low + 1}"

    def stop(self):
        for proxy in self.proxies.values():
            proxy.stop()
        self.server.stop()


def records(proxy, source):
    """What was told of a client: a note is told to nobody."""
    lines = proxy.findings.read_text().splitlines() if proxy.findings.exists() else []
    told = [record for record in map(json.loads, lines) if record["kind"] != "note"]
    return [record for record in told if record.get("client") == source]


def seconds(record):
    stamp = record["time"]
    if isinstance(stamp, (int, float)):
        return float(stamp)
    import datetime

    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def row_of(ask, record):
    """The last answered row that was sent when the record was made, from 1."""
    return min(max(1, int(np.searchsorted(ask.sent, seconds(record), side="right"))), len(ask.rows))


def run_one(gates, world, family, name, attack, start, budget, seed):
    run = Run(world.name, family, name, world.kept_apart)
    straight = Ask(lambda row: world.predict(row[None])[0], budget, start)
    attacked(world, attack, straight, seed)
    run.rows, run.straight = len(straight.rows), best(world, family, straight)
    run.curves["straight"] = curve(world, family, straight)

    proxy, source = gates.proxies["enforce"], gates.source()
    ask = Ask(Client(proxy.port, source, gates.server), run.rows, start)
    run.blocked = attacked(world, attack, ask, seed) == "refused"
    run.answered, run.at_block = len(ask.rows), best(world, family, ask)
    run.straight_at_block = best(world, family, straight, run.answered) if run.answered else None
    run.curves["enforce"] = curve(world, family, ask)
    note_findings(run, proxy, source, ask)

    proxy, source = gates.proxies["degrade"], gates.source()
    ask = Ask(Client(proxy.port, source, gates.server), run.rows, start)
    attacked(world, attack, ask, seed)
    run.degraded = best(world, family, ask)
    run.curves["degrade"] = curve(world, family, ask)
    decided = [record for record in records(proxy, source) if record["kind"] == "decision"]
    run.degraded_from = row_of(ask, decided[0]) if decided else None
    before = run.degraded_from or len(ask.rows)
    moments = paid(len(ask.rows) - before)
    run.rows_a_while = before + sum(moment <= A_WHILE for moment in moments)
    run.degraded_a_while = best(world, family, ask, run.rows_a_while)
    run.degraded_seconds = moments[-1] if moments else 0.0
    return run


def note_findings(run, proxy, source, ask):
    if run.blocked:
        block = proxy.block_of(source)
        run.block_by, run.block_row = block["detector"], row_of(ask, block)
    found = records(proxy, source)
    if found:
        run.first_row, run.first_by = row_of(ask, found[0]), found[0]["detector"]


def starts(world, count, random):
    rows = world.attacker[random.permutation(len(world.attacker))]
    if world.classes:
        return rows[:count]
    # Who hunts for a price wants one that is not low already.
    prices = world.predict(rows[:100])[:, 0]
    return rows[:100][np.argsort(prices)][45:45 + count]


def honest(gates, world, random):
    """Rows that one honest client gets answered, of those that it sends."""
    proxy, source = gates.proxies["enforce"], gates.source()
    rows = world.held[random.permutation(len(world.held))][:HONEST_ROWS]
    ask = Ask(Client(proxy.port, source, gates.server), len(rows), rows[0])
    try:
        ask(rows)
    except Over:
        pass
    told = sorted({record["detector"] for record in records(proxy, source)})
    return world.name, world.kept_apart, len(ask.rows), len(rows), told


def measure(options, seed):
    random = np.random.default_rng(seed)
    runs, served = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            world = worlds.MAKERS[name]()
            gates = Gates(options.binary, pathlib.Path(folder) / name, world, options.served_by)
            try:
                served.append(honest(gates, world, random))
                runs += attack_all(gates, world, options, random)
            finally:
                gates.stop()
    return runs, served


def attack_all(gates, world, options, random):
    runs = []
    for family, name, attack in attacks.plan(world):
        if options.only and name not in options.only:
            continue
        for start in starts(world, options.starts, random):
            began = time.monotonic()
            run = run_one(gates, world, family, name, attack, start, options.budget, int(random.integers(2**31)))
            runs.append(run)
            print(report.line(run), f"({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", help="the checkgate binary")
    parser.add_argument("--seed", type=int, default=None, help="by default drawn at run time, and printed")
    parser.add_argument("--models", nargs="+", choices=worlds.MAKERS, default=list(worlds.MAKERS))
    parser.add_argument("--served-by", choices=servers.KINDS, default="small", help="what serves the models")
    parser.add_argument("--only", nargs="+", help="names of attacks")
    parser.add_argument("--starts", type=int, default=3, help="starting rows of each attack")
    parser.add_argument("--budget", type=int, default=600, help="questions that an attacker who is not refused asks")
    parser.add_argument("--write", action="store_true", help="put tables and plot into docs/")
    parser.add_argument("--keep", type=pathlib.Path, help="a file that gets what was measured")
    parser.add_argument("--of", type=pathlib.Path, nargs="+", help="files that --keep wrote: reported on, nothing is run")
    parser.add_argument("--must-block", type=float, help="least share of evasion searches that must be refused")
    options = parser.parse_args()
    if options.of:
        kept = [json.loads(path.read_text()) for path in options.of]
        runs = [Run(**run) for one in kept for run in one["runs"]]
        served = [honest_client for one in kept for honest_client in one["served"]]
        seeds = [one["seed"] for one in kept]
    else:
        seeds = [secrets.randbits(32) if options.seed is None else options.seed]
        print(f"seed {seeds[0]}", file=sys.stderr, flush=True)
        runs, served = measure(options, seeds[0])
    if options.keep:
        options.keep.write_text(json.dumps({"seed": seeds[0], "runs": [asdict(run) for run in runs], "served": served}))
    page = report.page(runs, served, seeds, options.served_by)
    print(page)
    if options.write:
        report.write(page, runs, options.served_by)
    return judge(runs, served, options)


def judge(runs, served, options):
    """Exit code 1 where an honest client was refused, or too few searches were."""
    refused = [name for name, _, answered, rows, _ in served if answered < rows]
    searches = [run for run in runs if run.family == "evasion"]
    share = statistics.mean(run.blocked for run in searches) if searches else 1.0
    if refused:
        print(f"FAILED honest clients of {refused} were refused")
    if options.must_block is not None and share < options.must_block:
        print(f"FAILED {share:.0%} of the searches were refused, less than {options.must_block:.0%}")
        return 1
    return 1 if refused else 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
