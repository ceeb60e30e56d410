"""Tables and a plot of what attackers have."""

import pathlib
import statistics
from collections import defaultdict

DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"
PAGE = DOCS / "detection-quality.md"
PLOT = DOCS / "img" / "attackers.svg"
WRITERS = {"small": "run.sh --attackers --write"} | {
    kind: f"attackers/run.sh --served-by {kind} --write" for kind in ("mlserver", "mlflow")
}
UNITS = {"evasion": "nearest other label, sd", "price": "lowest price, part of its own", "extraction": "copy agrees"}


def shown(value, family):
    if value is None:
        return "-"
    return f"{value:.0%}" if family in ("extraction", "price") else f"{value:.2f}"


def middle(values, family):
    """The median; nothing counts as worse than anything."""
    worst = float("-inf") if family == "extraction" else float("inf")
    value = statistics.median_low([worst if value is None else value for value in values])
    return None if value in (float("inf"), float("-inf")) else value


def line(run):
    has = [shown(value, run.family) for value in (
        run.at_block, run.straight_at_block, run.straight, run.degraded, run.degraded_a_while)]
    ended = f"refused after {run.answered} ({run.block_by})" if run.blocked else f"all {run.answered} answered"
    first = f", first {run.first_by} at row {run.first_row}" if run.first_by else ""
    late = f"degraded {has[3]} after {run.degraded_seconds / 60:.0f} min, {has[4]} after a while ({run.rows_a_while} rows)"
    return f"{run.world} {run.attack}: {ended}{first}; has {has[0]}, straight {has[1]}, at the end {has[2]}, {late}"


def grouped(runs):
    groups = defaultdict(list)
    for run in runs:
        groups[run.family, run.world, run.attack].append(run)
    return groups


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def whole(values):
    values = [value for value in values if value is not None]
    return str(statistics.median_low(values)) if values else "-"


def names(values):
    return ", ".join(f"`{name}`" for name in sorted(set(filter(None, values)))) or "-"


def has_table(runs, family):
    rows = []
    for (_, world, attack), group in sorted(grouped(run for run in runs if run.family == family).items()):
        first = group[0]
        blocked = sum(run.blocked for run in group)
        degraded = [run.degraded_from for run in group if run.degraded_from]
        rows.append([
            attack, world + (" (apart)" if first.kept_apart else ""), f"{blocked} of {len(group)}",
            whole([run.answered for run in group]), shown(middle([run.at_block for run in group], family), family),
            shown(middle([run.straight for run in group], family), family), whole([run.rows for run in group]),
            f"{len(degraded)} of {len(group)}" + (f", row {whole(degraded)}" if degraded else ""),
            shown(middle([run.degraded_a_while for run in group], family), family),
            whole([run.rows_a_while for run in group]),
            shown(middle([run.degraded for run in group], family), family),
            f"{max(run.degraded_seconds for run in group) / 60:.0f}",
        ])
    head = ["attack", "model", "refused", "rows answered", f"has then ({UNITS[family]})", "unhindered", "after rows",
            "degraded, from", "has ten minutes later", "rows by then", "after as many as unhindered",
            "for which it waits, minutes at most"]
    return table(head, rows)


def live_table(runs):
    rows = []
    for (_, world, attack), group in sorted(grouped(runs).items()):
        rows.append([
            attack, world, group[0].family, f"{sum(bool(run.first_by) for run in group)} of {len(group)}",
            whole([run.first_row for run in group]), names(run.first_by for run in group),
            f"{sum(run.blocked for run in group)} of {len(group)}", whole([run.block_row for run in group]),
            names(run.block_by for run in group),
        ])
    head = ["attack", "model", "family", "told of", "at row and request", "by", "blocked", "at row and request", "by"]
    return table(head, rows)


def page(runs, served, seeds, served_by):
    starts = max(len(group) for group in grouped(runs).values())
    drawn = ", ".join(map(str, seeds))
    parts = [f"Seeds drawn when it ran: {drawn}. Each attack from {starts} rows; medians, of an even number the lower.\n"]
    titles = {"evasion": "Evasion: how close it came to the row it began with",
              "extraction": "Extraction: how well its copy agrees with the model",
              "price": "The best price"}
    for family, title in titles.items():
        if served_by == "small" and any(run.family == family for run in runs):
            parts += [f"### {title}\n", has_table(runs, family)]
    apart = [run for run in runs if run.kept_apart]
    if apart:
        parts += ["### Live, on models that no threshold was chosen on\n"] * (served_by == "small") + [live_table(apart)]
    rows = [[name + (" (apart)" if apart else ""), f"{answered} of {sent}", names(told)]
            for name, apart, answered, sent, told in served]
    parts += ["### An honest client beside them\n"] * (served_by == "small")
    parts += [table(["model", "rows of an honest client answered", "told of by"], rows)]
    return "\n".join(parts)


def write(text, runs, served_by):
    """Into the part of the page that is kept for these models' server; the plot is of the small one."""
    begin = f"<!-- {served_by}: written by load-tests/quality/{WRITERS[served_by]} -->\n"
    end = f"<!-- {served_by}: until here -->"
    before, rest = PAGE.read_text().split(begin)
    _, after = rest.split(end)
    PAGE.write_text(f"{before}{begin}\n{text.rstrip()}\n\n{end}{after}")
    if served_by == "small":
        draw(runs)


def draw(runs):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "attackers", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    panels = sorted({(run.family, run.world) for run in runs})
    columns = 3
    figure, axes = plt.subplots(-(-len(panels) // columns), columns, figsize=(12, 3.2 * -(-len(panels) // columns)))
    styles = {"straight": "-", "degrade": ":", "enforce": "-"}
    for axis, (family, world) in zip(axes.flat, panels):
        shown_runs = {}
        for run in runs:
            if (run.family, run.world) == (family, world):
                shown_runs.setdefault(run.attack, run)
        for color, (attack, run) in enumerate(shown_runs.items()):
            for way in ("straight", "degrade", "enforce"):
                points = [(x, y) for x, y in run.curves[way] if y is not None]
                label = attack if way == "straight" else None
                axis.plot(*(zip(*points) if points else ([], [])), styles[way], color=f"C{color}", label=label,
                          lw=2.5 if way == "enforce" else 1, alpha=0.9)
            if run.blocked and run.at_block is not None:
                axis.plot([run.answered], [run.at_block], "x", color=f"C{color}", ms=9, mew=2.5)
        axis.set_xscale("log")
        axis.set_title(f"{family}, {world}", fontsize=9)
        axis.set_ylabel(UNITS[family], fontsize=7)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=6)
    for axis in list(axes.flat)[len(panels):]:
        axis.set_visible(False)
    figure.supxlabel("questions answered; thick until the block (x), thin unhindered, dotted under degrade", fontsize=9)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None, "Creator": None})
    # One form of a drawing, whatever its maker leaves at the ends of lines.
    PLOT.write_text("\n".join(line.rstrip() for line in PLOT.read_text().splitlines()) + "\n")
