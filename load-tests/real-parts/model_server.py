"""A small model server that speaks the Open Inference Protocol, version 2: digits and a motor tariff.

Both models are trained by scikit-learn at start-up. `python model_server.py PORT` serves until it is ended.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

TARIFF_FIELDS = (
    "age", "licence_years", "vehicle_value", "vehicle_age", "power_kw",
    "km_year", "claims_5y", "region", "excess", "payments",
)


def digits():
    """Pixels in 0..1 and labels: rows to train on, then rows that no model has seen."""
    data = load_digits()
    return train_test_split(data.data / 16.0, data.target, test_size=0.5, random_state=7)


def portfolio(rows, seed):
    """An invented portfolio of motor policies: one row of TARIFF_FIELDS for each."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 80, rows)
    licence_years = np.maximum(0, age - 18 - random.integers(0, 6, rows))
    return np.column_stack([
        age,
        licence_years,
        np.round(random.lognormal(9.7, 0.5, rows), -2),
        random.integers(0, 18, rows),
        random.integers(40, 200, rows),
        np.round(random.lognormal(9.4, 0.4, rows), -2),
        random.choice([0, 0, 0, 0, 1, 1, 2, 3], rows),
        random.integers(1, 21, rows),
        random.choice([0, 150, 300, 500, 1000], rows),
        random.choice([1, 2, 4, 12], rows),
    ]).astype(float)


def tariff(rows):
    """The invented price that the regressor learns."""
    age, licence, value, vehicle_age, power, distance, claims, region, excess, payments = rows.T
    young = 1.0 + 0.8 * np.exp(-(age - 18) / 6) + 0.2 * (licence < 2)
    base = 180 + 0.011 * value + 1.9 * power + 0.006 * distance + 6 * region - 3 * vehicle_age
    return base * young * (1 + 0.35 * claims) * (1 - 0.0002 * excess) * (1 + 0.01 * payments)


def classifier():
    pixels, _, labels, _ = digits()
    return LogisticRegression(max_iter=2000).fit(pixels, labels)


def regressor():
    rows = portfolio(4000, seed=1)
    return HistGradientBoostingRegressor(random_state=1).fit(rows, tariff(rows))


def train():
    """Name to function from rows to rows of predictions."""
    pricing = regressor()
    return {"digits": classifier().predict_proba, "pricing": lambda asked: pricing.predict(asked).reshape(-1, 1)}


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    # One segment for head and body: two would wait for the peer's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    models = {}

    def do_GET(self):
        ready = self.path in ("/v2/health/live", "/v2/health/ready")
        self.answer(200 if ready else 404, {"ready": ready})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        name = self.path.removeprefix("/v2/models/").removesuffix("/infer")
        if name not in self.models:
            self.answer(404, {"error": "unknown model"})
            return
        try:
            tensor = json.loads(body)["inputs"][0]
            rows = np.asarray(tensor["data"], dtype=float).reshape(tensor["shape"])
            predictions = self.models[name](rows)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            self.answer(400, {"error": str(error)})
            return
        output = {
            "name": "output",
            "datatype": "FP64",
            "shape": list(predictions.shape),
            "data": predictions.ravel().tolist(),
        }
        self.answer(200, {"model_name": name, "model_version": "1", "outputs": [output]})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Says nothing: the tests speak."""


def serve(port):
    """A server on loopback that has its models."""
    Handler.models = train()
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server


if __name__ == "__main__":
    serve(int(sys.argv[1])).serve_forever()
