"""Puts what programs took on the same streams into docs/detection-quality.md, with a plot beside it.

    report.py CHECKGATE.csv PEERS.csv PUBLIC.md [--write]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

DOCS = Path(__file__).resolve().parents[3] / "docs"
MARKERS = ["<!-- drift peers: written by load-tests/quality/run.sh --peers --write -->\n", "<!-- drift peers: until here -->"]
SHOWN = ["mean +0.5 sd", "mean +0.1 sd", "sd x1.5", "bimodal", "lognormal x1.3", "rate 0.10 to 0.13", "stuck 2 %"]
INDEPENDENT = ["null normal", "null lognormal"]
DEPENDENT = ["null burst", "null day and night"]


def median(delays):
    ordered = sorted(float("inf") if delay is None else delay for delay in delays)
    return ordered[len(ordered) // 2] if ordered else None


def rows(path):
    with open(path) as file:
        for row in csv.reader(file):
            yield row


def gathered(checkgate, peers):
    """By program: alarms and events without a change by stream, delays by stream, cost, bytes."""
    programs = defaultdict(lambda: {"null": defaultdict(lambda: [0, 0]), "delays": defaultdict(list), "cost": [], "bytes": []})
    for program, stream, _, events, before, delay, cost, size in list(rows(checkgate))[1:] + list(rows(peers)):
        one = programs[program]
        one["null"][stream][0] += int(before)
        one["null"][stream][1] += int(events)
        if not stream.startswith("null"):
            one["delays"][stream].append(int(delay) if delay else None)
        one["cost"].append(float(cost))
        if size:
            one["bytes"].append(int(size))
    return programs


def alarms(one, streams):
    found = sum(one["null"][stream][0] for stream in streams)
    events = sum(one["null"][stream][1] for stream in streams)
    return found, events


def table(programs):
    head = ["program", "alarms in 100,000 unchanged events", "... of bursts and days"] + SHOWN + ["us an event", "bytes of state"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, one in programs.items():
        cells = [name]
        for streams in (INDEPENDENT, DEPENDENT):
            found, events = alarms(one, streams)
            cells.append(f"{found / events * 1e5:.1f} ({found})" if events else "-")
        for stream in SHOWN:
            middle = median(one["delays"].get(stream, []))
            missed = sum(delay is None for delay in one["delays"].get(stream, []))
            shown = "never" if middle == float("inf") else "-" if middle is None else f"{middle:.0f}"
            cells.append(shown + (f" [{missed}]" if missed and shown != "never" else ""))
        cells.append(f"{sorted(one['cost'])[len(one['cost']) // 2]:.2f}" if one["cost"] else "-")
        cells.append(f"{max(one['bytes'])}" if one["bytes"] else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(programs, stream):
    """Alarms without a change against the delay; both logarithmic, the lower left corner is best."""
    import math

    width, height, left, bottom = 640, 400, 70, 330
    x = lambda rate: left + (math.log10(max(rate, 0.1)) + 1) / 4 * 420
    y = lambda delay: bottom - (math.log10(min(max(delay, 10), 30_000)) - 1) / 3.5 * 290
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{left}" y="20" font-size="13">{stream}: delay and false alarms</text>',
        f'<text x="{left}" y="{height - 14}">alarms in 100,000 events of independent, unchanged streams (0.1: none)</text>',
        f'<text x="14" y="{bottom}" transform="rotate(-90 14 {bottom})">events until told (top: never)</text>',
    ]
    for rate in (0.1, 1, 10, 100, 1000):
        parts.append(f'<line x1="{x(rate):.0f}" y1="40" x2="{x(rate):.0f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(rate):.0f}" y="{bottom + 16}" text-anchor="middle">{rate:g}</text>')
    for delay in (10, 100, 1000, 10_000):
        parts.append(f'<line x1="{left}" y1="{y(delay):.0f}" x2="490" y2="{y(delay):.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y(delay) + 4:.0f}" text-anchor="end">{delay}</text>')
    for number, (name, one) in enumerate(programs.items()):
        found, events = alarms(one, INDEPENDENT)
        middle = median(one["delays"].get(stream, []))
        if not events or middle is None:
            continue
        ours = name.startswith("checkgate")
        colour = "#2b6cb0" if ours else "#c05621"
        cx, cy = x(found / events * 1e5), y(middle)
        parts.append(f'<circle cx="{cx:.0f}" cy="{cy:.0f}" r="5" fill="{colour}"><title>{name}</title></circle>')
        parts.append(f'<text x="{cx + 8:.0f}" y="{cy + 4 + (number % 3 - 1) * 9:.0f}" fill="{colour}">{name}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkgate")
    parser.add_argument("peers")
    parser.add_argument("public")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    programs = gathered(arguments.checkgate, arguments.peers)
    ordered = dict(sorted(programs.items(), key=lambda item: (not item[0].startswith("checkgate"), item[0])))
    text = table(ordered) + "\n\n" + Path(arguments.public).read_text().rstrip()
    print(text)
    if arguments.write:
        page = (DOCS / "detection-quality.md").read_text()
        before, rest = page.split(MARKERS[0], 1)
        _, after = rest.split(MARKERS[1], 1)
        (DOCS / "detection-quality.md").write_text(f"{before}{MARKERS[0]}\n{text}\n\n{MARKERS[1]}{after}")
        (DOCS / "img" / "drift-peers.svg").write_text(plot(ordered, "mean +0.5 sd"))


if __name__ == "__main__":
    main()
