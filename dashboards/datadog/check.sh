#!/usr/bin/env bash
# Whether Datadog's own client reads the dashboards whole: exit code 1 where it leaves anything unparsed.
set -euo pipefail
cd "$(dirname "$0")"

../../load-tests/real-parts/venv.sh
exec .venv/bin/python - checkgate-*.json <<'PYTHON'
import json
import sys

from datadog_api_client import ApiClient, Configuration
from datadog_api_client.model_utils import OpenApiModel
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.widget import Widget

client = ApiClient(Configuration())


def read(path):
    # The service fills in the id; a new dashboard has none.
    document = {**json.loads(open(path).read()), "id": "new"}
    return client.deserialize(json.dumps(document), (Dashboard,), check_type=True)


def unparsed(value, path):
    """Paths of all that was not understood."""
    if isinstance(value, list):
        return [found for index, one in enumerate(value) for found in unparsed(one, f"{path}[{index}]")]
    if not isinstance(value, OpenApiModel):
        return []
    found = [path] if getattr(value, "_unparsed", False) else []
    inner = getattr(value, "_data_store", None) or {}
    for key, one in inner.items():
        found += unparsed(one, f"{path}.{key}")
    instance = getattr(value, "_composed_instances", None) or []
    for one in instance:
        found += unparsed(one, path)
    return found


def widgets(value):
    if isinstance(value, list):
        return sum(widgets(one) for one in value)
    inner = getattr(value, "_data_store", None) or {}
    composed = getattr(value, "_composed_instances", None) or []
    return isinstance(value, Widget) + sum(widgets(one) for one in [*inner.values(), *composed])


wrong = len(sys.argv) < 4
for path in sys.argv[1:]:
    dashboard = read(path)
    left, count = unparsed(dashboard, "dashboard"), widgets(dashboard)
    print(f"{path}: {count} widgets read, {len(left)} places left unparsed", *left, sep="\n  ")
    wrong |= bool(left) or count < 10
sys.exit(wrong)
PYTHON
