#!/usr/bin/env bash
# Whether Grafana's own types read the dashboards whole, and know their panels and units: exit code 1 where not.
set -euo pipefail
cd "$(dirname "$0")"

../../load-tests/real-parts/venv.sh
exec .venv/bin/python - ../*.json <<'PYTHON'
import json
import pathlib
import sys

from grafana_foundation_sdk.cog import plugins, runtime
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

# Only exported dashboards bear these, and the types leave them out.
NOT_OF_THE_TYPES = {"$.__requires"}
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
EMPTY = (None, False, "", [], {})


def lost(given, read, path):
    """Paths of all that was not read, or was read as something else."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            if key in read:
                yield from lost(value, read[key], f"{path}.{key}")
            elif value not in EMPTY:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for place, (one, other) in enumerate(zip(given, read)):
            yield from lost(one, other, f"{path}[{place}]")
    elif given != read:
        yield path


def complaints(document):
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    yield from (f"{path} was not understood" for path in lost(document, read, "$") if path not in NOT_OF_THE_TYPES)
    for panel in document["panels"]:
        title, kind = panel["title"], panel["type"]
        if kind != "row" and runtime.panelcfg_config(kind) is None:
            yield f"{title}: there is no panel of type {kind}"
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        if unit is not None and unit not in UNITS:
            yield f"{title}: there is no unit {unit}"


plugins.register_default_plugins()
found = 0
for path in map(pathlib.Path, sys.argv[1:]):
    document = json.loads(path.read_text())
    wrong = list(complaints(document))
    found += len(wrong)
    print(f"{path.name}: {len(document['panels'])} panels, {len(wrong)} complaints", *wrong, sep="\n  ")
sys.exit(found > 0 or len(sys.argv) < 4)
PYTHON
