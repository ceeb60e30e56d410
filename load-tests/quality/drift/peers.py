"""Other drift detectors on the streams that drift_quality wrote: alarms without a change, delays, cost, memory.

    peers.py STREAMS --with river [--long]

prints CSV: program, stream, seed, events before the change, alarms before it, delay after it (empty where it is missed
within the file), microseconds an event, bytes of state. Each program runs in an environment of its own; those that learn
first get the first 5,000 events of a file, and every alarm begins them anew. Nothing is tuned: defaults, and one stricter
setting where the default alarms all the time.
"""

import argparse
import csv
import os
import pickle
import sys
import time
import warnings
from pathlib import Path

LEARNED = 5_000
"""Events of a file that a program may learn from."""
WINDOW = 1_000
"""Events of a window, for programs that compare windows."""
QUICK = [
    "null normal",
    "null lognormal",
    "null burst",
    "null day and night",
    "mean +0.5 sd",
    "mean +0.1 sd",
    "sd x1.5",
    "bimodal",
    "lognormal x1.3",
    "rate 0.10 to 0.13",
    "stuck 2 %",
]
"""Streams that slow programs get without --long, with one seed."""

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")


def streams(folder):
    with open(folder / "streams.csv") as index:
        for row in csv.DictReader(index):
            values = [float(line) for line in (folder / row["file"]).read_text().split()[1:]]
            changes = int(row["changes_after"]) if row["changes_after"] else None
            yield row["stream"], int(row["file"].split(".")[-2]), values, changes


class Sequential:
    """A detector that takes one value after the other."""

    def __init__(self, make, update, limit=None):
        self.make, self.update, self.limit = make, update, limit

    def run(self, values, changes):
        detector, before, delay = self.make(), 0, None
        values = values[: self.limit] if self.limit else values
        end = changes if changes is not None else len(values)
        began = time.perf_counter()
        for place, value in enumerate(values):
            if self.update(detector, value):
                if place >= end:
                    delay = place - end + 1
                    break
                before += 1
                detector = self.make()
        spent = (time.perf_counter() - began) / (place + 1) * 1e6
        return min(end, place + 1), before, delay, spent, len(pickle.dumps(detector))


class Windows:
    """A detector that learns, and compares one window after the other with what it learned."""

    def __init__(self, learn):
        self.learn = learn

    def run(self, values, changes):
        detect = self.learn(values[:LEARNED])
        rest = values[LEARNED:]
        end = (changes if changes is not None else len(values)) - LEARNED
        before, delay, seen = 0, None, 0
        began = time.perf_counter()
        for start in range(0, len(rest) - WINDOW + 1, WINDOW):
            seen += WINDOW
            if detect(rest[start : start + WINDOW]):
                if start >= end:
                    delay = start + WINDOW - end
                    break
                before += 1
        spent = (time.perf_counter() - began) / max(seen, 1) * 1e6
        return min(end, seen), before, delay, spent, None


def of_river(long):
    from river import drift

    def updated(detector, value):
        detector.update(value)
        return detector.drift_detected

    yield "river ADWIN", Sequential(drift.ADWIN, updated), False
    yield "river ADWIN, delta 1e-4", Sequential(lambda: drift.ADWIN(delta=1e-4), updated), False
    yield "river PageHinkley", Sequential(drift.PageHinkley, updated), False
    if long:
        yield "river KSWIN", Sequential(lambda: drift.KSWIN(seed=1), updated, 14_000), True


def of_frouros(long):
    from frouros.detectors.concept_drift import CUSUM, CUSUMConfig, PageHinkley, PageHinkleyConfig

    def updated(detector, value):
        detector.update(value=value)
        return detector.drift

    yield "frouros PageHinkley", Sequential(lambda: PageHinkley(config=PageHinkleyConfig()), updated), True
    yield "frouros CUSUM", Sequential(lambda: CUSUM(config=CUSUMConfig()), updated), True


def of_evidently(long):
    import pandas
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def learn(values):
        reference = pandas.DataFrame({"value": values})

        def detect(window):
            result = Report([DataDriftPreset()]).run(pandas.DataFrame({"value": window}), reference).dict()
            return any(metric["value"].get("count", 0) > 0 for metric in result["metrics"] if "count" in str(metric["value"]))

        return detect

    yield "evidently, windows of 1,000", Windows(learn), True


def of_nannyml(long):
    import nannyml
    import pandas

    def learn_by(method):
        def learn(values):
            frame = pandas.DataFrame({"value": values})
            calculator = nannyml.UnivariateDriftCalculator(
                column_names=["value"], continuous_methods=[method], chunk_size=WINDOW
            ).fit(frame)

            def detect(window):
                result = calculator.calculate(pandas.DataFrame({"value": window}))
                return bool(result.filter(period="analysis").to_df()[("value", method, "alert")].any())

            return detect

        return learn

    yield "nannyml Jensen-Shannon, chunks of 1,000", Windows(learn_by("jensen_shannon")), True
    yield "nannyml Kolmogorov-Smirnov, chunks of 1,000", Windows(learn_by("kolmogorov_smirnov")), True


def of_alibi(long):
    import numpy
    from alibi_detect.cd import KSDrift

    def learn(values):
        detector = KSDrift(numpy.array(values, dtype=numpy.float32)[:, None], p_val=0.001)
        return lambda window: bool(
            detector.predict(numpy.array(window, dtype=numpy.float32)[:, None])["data"]["is_drift"]
        )

    yield "alibi-detect KSDrift p 0.001, windows of 1,000", Windows(learn), True
    if long:
        from alibi_detect.cd import CVMDriftOnline

        def make():
            reference = numpy.random.default_rng(1).normal(size=(1000, 1)).astype(numpy.float32)
            return CVMDriftOnline(reference, ert=1000, window_sizes=[20, 100], n_bootstraps=10_000, verbose=False)

        made = make()

        def fresh():
            made.reset()
            return made

        def updated(detector, value):
            return bool(detector.predict(numpy.array([value], dtype=numpy.float32))["data"]["is_drift"])

        yield "alibi-detect CVMDriftOnline, ERT 1,000", Sequential(fresh, updated, 12_000), True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("streams", type=Path)
    parser.add_argument("--with", dest="program", required=True)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    detectors = {
        "river": of_river,
        "frouros": of_frouros,
        "evidently": of_evidently,
        "nannyml": of_nannyml,
        "alibi": of_alibi,
    }[arguments.program](arguments.long)
    everything = list(streams(arguments.streams))
    first = min(seed for _, seed, _, _ in everything)
    writer = csv.writer(sys.stdout)
    for name, detector, is_slow in detectors:
        print(f"quality: {name}", file=sys.stderr)
        for stream, seed, values, changes in everything:
            if is_slow and not arguments.long and (seed != first or stream not in QUICK):
                continue
            # Some detectors raise at negative values; that is told as no result.
            try:
                writer.writerow([name, stream, seed, *detector.run(values, changes)])
            except Exception as error:
                print(f"quality: {name} on {stream}: {error}", file=sys.stderr)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
