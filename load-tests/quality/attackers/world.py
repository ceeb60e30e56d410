"""Models that are attacked, their data, and what an attacker and an honest client know of it.

`digits` and `pricing` are what the thresholds were chosen on. `patches`, `wine` and `diabetes` are kept apart: no threshold
was ever chosen, and no detector changed, by what was measured on them.
"""

import json
import pathlib
import sys
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_diabetes, load_sample_images, load_wine
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "real-parts"))
import model_server  # noqa: E402

REFERENCE_ROWS = 1200


@dataclass
class World:
    """One model and its data. Rows of `reference`, `held` and `attacker` have nothing in common."""

    name: str
    model: object  # of scikit-learn
    classes: int  # 0 where answers are numbers
    reference: np.ndarray
    held: np.ndarray  # what a copy is tried on, and what the honest client sends
    attacker: np.ndarray
    shape: tuple
    kept_apart: bool

    def __post_init__(self):
        spread = self.reference.std(axis=0)
        self.spread = np.maximum(spread, 0.25 * np.median(spread))
        self.low, self.high = self.reference.min(axis=0), self.reference.max(axis=0)

    def apart(self, rows, x0):
        """Root mean square over columns, in standard deviations of the reference."""
        return np.sqrt((((rows - x0) / self.spread) ** 2).mean(axis=1))

    def predict(self, rows):
        """Rows of probabilities, or of one number."""
        return self.model.predict_proba(rows) if self.classes else self.model.predict(rows).reshape(-1, 1)

    def labels(self, rows):
        return self.predict(rows).argmax(axis=1)

    def write_reference(self, folder):
        path = pathlib.Path(folder) / f"{self.name}.jsonl"
        lines = [json.dumps({"features": [f"column_{column}" for column in range(self.reference.shape[1])]})]
        for x, p in zip(self.reference, self.predict(self.reference)):
            lines.append(json.dumps({"x": [float(v) for v in x], "p": [float(v) for v in p]}))
        path.write_text("\n".join(lines) + "\n")
        return path


def split(name, rows, model, classes, shape, kept_apart):
    rows = np.random.default_rng(11).permutation(np.unique(rows, axis=0))
    size = min(REFERENCE_ROWS, len(rows) // 2)
    rest = rows[size:]
    half = len(rest) // 2
    return World(name, model, classes, rows[:size], rest[:half], rest[half:], shape, kept_apart)


def digits():
    _, pixels, _, _ = model_server.digits()
    return split("digits", pixels, model_server.classifier(), 10, (8, 8, 1), False)


def pricing():
    return split("pricing", model_server.portfolio(3000, seed=5), model_server.regressor(), 0, (10,), False)


def patches():
    """8 x 8 grey patches of the two photographs of scikit-learn; the class is the photograph."""
    rows, labels = [], []
    for label, photo in enumerate(load_sample_images().images):
        grey = np.round(photo[::2, ::2].mean(axis=2)) / 255.0
        found = extract_patches_2d(grey, (8, 8), max_patches=3000, random_state=label)
        rows.append(found.reshape(len(found), -1))
        labels += [label] * len(found)
    train, ours, known, _ = train_test_split(np.vstack(rows), labels, test_size=0.5, random_state=3)
    model = SVC(probability=True, random_state=3).fit(train[:1500], known[:1500])
    return split("patches", ours, model, 2, (8, 8, 1), True)


def wine():
    data = load_wine()
    model = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=800, random_state=3))
    model.fit(data.data, data.target)
    # 178 rows are few: more are made, each on the way between two of one class, as precise as the recorded ones.
    random = np.random.default_rng(3)
    rows = []
    for _ in range(3000):
        one = random.integers(len(data.data))
        other = random.choice(np.flatnonzero(data.target == data.target[one]))
        between = data.data[one] + random.uniform(0, 1, data.data.shape[1]) * (data.data[other] - data.data[one])
        rows.append(np.round(between, 2))
    return split("wine", np.array(rows), model, 3, (13,), True)


def diabetes():
    """A score of a disease from ten measures, in their own units."""
    data = load_diabetes(scaled=False)
    model = RandomForestRegressor(60, random_state=3).fit(data.data, data.target)
    random = np.random.default_rng(4)
    rows = []
    for _ in range(3000):
        one, other = random.integers(len(data.data), size=2)
        keeps = random.random(data.data.shape[1]) < 0.5
        rows.append(np.where(keeps, data.data[one], data.data[other]))
    return split("diabetes", np.array(rows), model, 0, (10,), True)


MAKERS = {"digits": digits, "pricing": pricing, "patches": patches, "wine": wine, "diabetes": diabetes}


def copy_of(world, rows, answers):
    """What an attacker makes of what it was answered, and how well that agrees with the model on rows of others:
    the share of equal labels, or of numbers within a twentieth."""
    truth = world.predict(world.held)
    if len(rows) < 2:
        return 0.0
    if world.classes:
        labels = answers.argmax(axis=1)
        if len(np.unique(labels)) < 2:
            guess = np.full(len(world.held), labels[0])
        else:
            guess = RandomForestClassifier(40, random_state=5).fit(rows, labels).predict(world.held)
        return float((guess == truth.argmax(axis=1)).mean())
    copy = RandomForestRegressor(40, random_state=5).fit(rows, answers[:, 0])
    guess = copy.predict(world.held)
    return float((np.abs(guess / truth[:, 0] - 1.0) < 0.05).mean())
