"""A client of the model in a namespace of its own: it knows nothing but the address at which the model is asked.

`attack` runs ZOO until it is refused, `once` asks one question, `honest` asks until it is ended. What became of it is
printed as JSON; `honest` prints its counts after each question.
"""

import argparse
import http.client
import itertools
import json
import pathlib
import sys
import time
import warnings

warnings.filterwarnings("ignore")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "real-parts"))

import run as real_parts  # noqa: E402

# A honest client's questions are this far apart.
PAUSE_SECONDS = 0.1
# What a firewall drops is told from a slow answer by this: only one question is meant to be dropped.
TIMEOUT_SECONDS = {"attack": 30, "once": 5, "honest": 30}


def client(options):
    made = real_parts.Client(options.port, "")
    # The address is that of the namespace, so that none is asked for.
    made.connection = http.client.HTTPConnection(options.host, options.port, timeout=TIMEOUT_SECONDS[options.what])
    return made


def attack(options):
    attacker = client(options)
    became = "never refused"
    try:
        real_parts.attack_by_zoo(attacker)
    except real_parts.Blocked:
        became = "refused with 403"
    except OSError:
        became = "cut off"
    print(json.dumps({"became": became, "rows": attacker.rows, "refusal": attacker.refusal}))


def once(options):
    asks = client(options)
    row = real_parts.honest_rows("digits")[-1]
    try:
        asks.predict_row("digits", row)
        became = "200"
    except real_parts.Blocked:
        became = "403"
    except OSError:
        became = "no connection"
    print(json.dumps({"became": became}))


def honest(options):
    asks = client(options)
    rows = {model: itertools.cycle(real_parts.honest_rows(model)) for model in ("digits", "pricing")}
    refused = 0
    for model in itertools.cycle(rows):
        try:
            asks.predict_row(model, next(rows[model]))
        except (real_parts.Blocked, RuntimeError, OSError, http.client.HTTPException):
            refused += 1
            asks.connection.close()
        print(json.dumps({"served": asks.rows, "refused": refused}), flush=True)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["attack", "once", "honest"])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    {"attack": attack, "once": once, "honest": honest}[given.what](given)
