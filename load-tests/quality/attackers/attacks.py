"""Attacks that see nothing of the model but its answers. Each takes a world, `ask` and a seed, and asks until `ask` ends it.

Evasion is what adversarial-robustness-toolbox makes of it; extraction and price hunts are written here, because the
toolbox's own need a copy with a gradient. What they sent and were answered is in the log of `ask`.
"""

import numpy as np
from art.attacks.evasion import BoundaryAttack, HopSkipJump, SignOPTAttack, SimBA, SquareAttack, ZooAttack
from art.estimators.classification import BlackBoxClassifier, BlackBoxClassifierNeuralNetwork


def blackbox(world, ask, shape):
    low, high = float(world.low.min()), float(world.high.max())
    unit = world.classes and world.shape[0] == 8
    span = np.ones_like(world.low) if unit else np.maximum(world.high - world.low, 1e-9)
    base = np.zeros_like(world.low) if unit else world.low
    low, high = (low, high) if unit else (0.0, 1.0)

    def predict(x):
        return ask(base + x.reshape(len(x), -1).astype(float) * span)

    def into(x):
        return ((x - base) / span).reshape(1, *shape).astype(np.float32)

    if len(shape) > 1:
        # Searches that know images ask for a network; they use nothing of it but its answers.
        return BlackBoxClassifierNeuralNetwork(
            predict, input_shape=shape, nb_classes=world.classes, channels_first=False, clip_values=(low, high)), into
    return BlackBoxClassifier(predict, input_shape=shape, nb_classes=world.classes, clip_values=(low, high)), into


def evasion(make, image=False):
    def attack(world, ask, seed):
        np.random.seed(seed % 2**32)
        x0 = ask.start
        shape = world.shape if image else (len(x0),)
        classifier, into = blackbox(world, ask, shape)
        while True:
            make(classifier).generate(x=into(x0))

    return attack


hop_skip_jump = evasion(lambda c: HopSkipJump(c, max_iter=20, max_eval=300, init_eval=20, init_size=50, verbose=False))
boundary = evasion(lambda c: BoundaryAttack(c, targeted=False, max_iter=400, num_trial=15, init_size=50, verbose=False))
sign_opt = evasion(lambda c: SignOPTAttack(c, targeted=False, max_iter=30, num_trial=20, k=40, verbose=False))
zoo = evasion(lambda c: ZooAttack(
    c, max_iter=60, nb_parallel=8, batch_size=1, binary_search_steps=2, use_resize=False, use_importance=False,
    variable_h=0.05, learning_rate=0.1, verbose=False))
square = evasion(lambda c: SquareAttack(c, norm=np.inf, eps=0.3, max_iter=600, nb_restarts=1, verbose=False), image=True)
simba = evasion(lambda c: SimBA(c, attack="px", epsilon=0.25, max_iter=600, verbose=False), image=True)


def uniform(world, ask, seed):
    """Rows by chance over the ranges that the attacker knows."""
    random = np.random.default_rng(seed)
    while True:
        ask(random.uniform(world.low, world.high)[None])


def natural(world, ask, seed):
    """Rows of its own from where customers' rows come from."""
    random = np.random.default_rng(seed)
    while True:
        for row in random.permutation(world.attacker):
            ask(row[None])


def near_seeds(world, ask, seed):
    """A few rows of its own, and changes of them by a tenth of a standard deviation, as data is augmented."""
    random = np.random.default_rng(seed)
    seeds = random.permutation(world.attacker)[:20]
    while True:
        row = seeds[random.integers(len(seeds))]
        ask((row + 0.1 * world.spread * random.choice([-1.0, 1.0], len(row)))[None])


def uncertain(world, ask, seed):
    """Of random mixtures of its own rows, the one that its copy is least sure of."""
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(seed)
    for row in random.permutation(world.attacker)[:20]:
        ask(row[None])
    while True:
        rows, answers = ask.log()
        labels = answers.argmax(axis=1)
        pairs = world.attacker[random.integers(len(world.attacker), size=(200, 2))]
        pool = pairs[:, 0] + random.uniform(0, 1, (200, 1)) * (pairs[:, 1] - pairs[:, 0])
        if len(np.unique(labels)) > 1:
            sure = np.sort(RandomForestClassifier(15, random_state=1).fit(rows, labels).predict_proba(pool), axis=1)
            pool = pool[np.argsort(sure[:, -1] - sure[:, -2])]
        for row in pool[:10]:
            ask(row[None])


def one_at_a_time(world, ask, seed):
    """One row, each field moved over its range, the rest as it was."""
    random = np.random.default_rng(seed)
    base = ask.start
    ask(base[None])
    for column in random.permutation(len(base)):
        for value in np.linspace(world.low[column], world.high[column], 24).round():
            row = base.copy()
            row[column] = value
            ask(row[None])
    natural(world, ask, seed)


def descent(world, ask, seed):
    """The cheapest entry field by field, keeping what was cheapest, until nothing helps."""
    random = np.random.default_rng(seed)
    base = ask.start
    best = ask(base[None])[0, 0]
    while True:
        for column in random.permutation(len(base)):
            for value in random.uniform(world.low[column], world.high[column], 8).round():
                row = base.copy()
                row[column] = value
                price = ask(row[None])[0, 0]
                if price < best:
                    best, base = price, row


def random_hunt(world, ask, seed):
    """The cheapest of rows that have some fields of the attacker's and the others by chance."""
    random = np.random.default_rng(seed)
    base = ask.start
    while True:
        keeps = random.random(len(base)) < 0.5
        ask(np.where(keeps, base, random.uniform(world.low, world.high).round())[None])


IMAGES = [("HopSkipJump", hop_skip_jump), ("boundary", boundary), ("SignOPT", sign_opt), ("ZOO", zoo),
          ("Square", square), ("SimBA", simba)]
TABLE = [("HopSkipJump", hop_skip_jump), ("boundary", boundary), ("SignOPT", sign_opt), ("ZOO", zoo)]
COPIES = [("uniform", uniform), ("uncertain", uncertain), ("near seeds", near_seeds), ("natural", natural)]
PRICES = [("one at a time", one_at_a_time), ("descent", descent), ("random hunt", random_hunt)]
READS = [("one at a time", one_at_a_time), ("uniform", uniform), ("natural", natural)]


def plan(world):
    """Family, name and attack of all that are run on a world."""
    if world.classes:
        searches = IMAGES if world.shape[0] == 8 else TABLE
        # The toolbox's SignOPT takes no models of two classes.
        searches = [one for one in searches if world.classes > 2 or one[0] != "SignOPT"]
        return [("evasion", *one) for one in searches] + [("extraction", *one) for one in COPIES]
    return [("price", *one) for one in PRICES] + [("extraction", *one) for one in READS]
