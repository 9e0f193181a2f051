"""Draws docs/plots/*.svg from docs/plots/growth.json. Takes in what `make bench-growth` measured since, part by part.

The same figures make the same files, byte by byte.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

HERE = Path(__file__).resolve().parent
KEPT = HERE / "growth.json"
MEASURED = HERE.parent.parent / "target" / "bench" / "growth.json"

# Told apart without colour vision, and by their shape.
LOOKUP, CHARGE, OTHER = "#0072b2", "#d55e00", "#009e73"
KEY_CASES = ("few", "1,000 of many", "all of many")
STYLES = {"validate": (LOOKUP, "o"), "charge": (CHARGE, "s")}

matplotlib.rcdefaults()
plt.rcParams.update(
    {
        # A background of its own, so that the labels can be read on a dark page too.
        "figure.facecolor": "#ffffff",
        "savefig.facecolor": "#ffffff",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "font.size": 9,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "svg.hashsalt": "agentkey",
        "figure.constrained_layout.use": True,
    }
)


def take_in_what_was_measured() -> dict:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    measured = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    for name, part in measured.items():
        # Shorter measurements are a first look.
        if part["about"]["seconds"] >= 1:
            kept[name] = part
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return kept


def rows(data: dict, part: str, **wanted) -> list:
    figures = data[part]["figures"]
    return [row for row in figures if all(row.get(name) == value for name, value in wanted.items())]


def row(data: dict, part: str, **wanted) -> dict:
    found = rows(data, part, **wanted)
    if len(found) != 1:
        raise SystemExit(f"growth.json: {len(found)} figures of {part} for {wanted}, in place of one")
    return found[0]


def short(number: float, _position=None) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.3g}"


def save(figure, name: str) -> None:
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def lines(axes, data: dict, part: str, along: str, value: str, scale: float = 1) -> None:
    for operation, (colour, marker) in STYLES.items():
        found = rows(data, part, operation=operation)
        x = [figure[along] for figure in found]
        axes.plot(x, [figure[value] / scale for figure in found], color=colour, marker=marker, label=operation)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(short))


def bars(axes, names: list, values: list, colour) -> None:
    drawn = axes.barh(range(len(names)), values, color=colour, height=0.65)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.bar_label(drawn, labels=[short(value) for value in values], padding=3)
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.margins(x=0.18)


def draw_callers(data: dict) -> None:
    figure, (rate, latency) = plt.subplots(1, 2, figsize=(7, 2.6))
    lines(rate, data, "callers", "inFlight", "perSecond")
    rate.set_ylabel("calls a second")
    lines(latency, data, "callers", "inFlight", "p99Micros", 1_000)
    latency.set_ylabel("99th percentile, milliseconds")
    for axes in (rate, latency):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(short))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("calls in flight")
    rate.legend(frameon=False)
    save(figure, "callers")


def draw_processes(data: dict) -> None:
    figure, (processes, connections) = plt.subplots(1, 2, figsize=(7, 2.6))
    lines(processes, data, "processes", "processes", "perSecond")
    processes.set_xlabel("processes, 100 calls in flight each")
    lines(connections, data, "connections", "connections", "perSecond")
    connections.set_xlabel("connections of one process, 256 calls in flight")
    for axes, part, along in ((processes, "processes", "processes"), (connections, "connections", "connections")):
        axes.set_xticks(sorted({figure[along] for figure in rows(data, part)}))
        axes.set_ylabel("calls a second")
    processes.legend(frameon=False)
    save(figure, "processes")


def draw_keys(data: dict) -> None:
    def named(figure: dict) -> str:
        case = {"few": "1,000 keys", "1,000 of many": f"1,000 of {figure['keys']:,}"}
        return f"{case.get(figure['case'], format(figure['keys'], ',') + ' keys')}; {figure['settings']}"

    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
    for axes, operation, value, what in (
        (panels[0], "validate", "perSecond", "look-ups a second"),
        (panels[1], "charge", "perSecond", "charges a second"),
        (panels[2], "charge", "walBytesPerCall", "bytes of log a charge"),
    ):
        crowd = {case: rows(data, "keys", operation=operation, inFlight=256, case=case) for case in KEY_CASES}
        chosen = [found for case in KEY_CASES for found in crowd[case]]
        colours = ["#888888" if found["case"] != "all of many" else STYLES[operation][0] for found in chosen]
        bars(axes, [named(found) for found in chosen], [found[value] for found in chosen], colours)
        axes.set_xlabel(what)
    save(figure, "keys")


def draw_ledger(data: dict) -> None:
    figure, (rate, reports) = plt.subplots(1, 2, figsize=(9, 2.8), width_ratios=(2, 3))
    charges = [figure for figure in rows(data, "ledger", operation="charge", inFlight=256)]
    names = [f"{figure['entries']:,} entries" for figure in charges]
    bars(rate, names, [figure["perSecond"] for figure in charges], CHARGE)
    rate.set_xlabel("charges a second, 256 in flight")
    reading = [figure for figure in rows(data, "ledger", inFlight=1) if figure["operation"] != "charge"]
    reading.sort(key=lambda figure: (figure["entriesOfKey"], figure["entries"]))
    reading = [figure for figure in reading if figure["entries"]]
    names = [f"{figure['operation']}, a key with {figure['entriesOfKey']:,}" for figure in reading]
    bars(reports, names, [figure["p50Micros"] / 1_000 for figure in reading], OTHER)
    reports.set_xscale("log")
    reports.margins(x=0.25)
    reports.xaxis.set_major_formatter(FuncFormatter(short))
    reports.set_xlabel(f"milliseconds, median, {charges[-1]['entries']:,} entries")
    save(figure, "ledger")


def draw_reservations(data: dict) -> None:
    figure, (rate, size) = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
    pairs = rows(data, "reservations", operation="reserve and settle", inFlight=256)
    names = [figure["companion"] for figure in pairs]
    bars(rate, names, [figure["perSecond"] for figure in pairs], CHARGE)
    rate.set_xlabel("pairs of reserve and settle a second, 256 in flight")
    sizes = {figure["companion"]: figure for figure in rows(data, "reservations") if "tableBytes" in figure}
    table = [sizes[name]["tableBytes"] / 1e6 for name in names]
    indexes = [sizes[name]["indexBytes"] / 1e6 for name in names]
    size.barh(range(len(names)), table, color=LOOKUP, height=0.65, label="table")
    size.barh(range(len(names)), indexes, left=table, color=OTHER, height=0.65, label="indexes")
    size.grid(axis="y", visible=False)
    size.set_xlabel("megabytes of the reservations")
    size.legend(frameon=False)
    save(figure, "reservations")


def draw_memory(data: dict) -> None:
    figure, axes = plt.subplots(figsize=(5, 2.4))
    found = rows(data, "memory")
    axes.plot(
        [figure["calls"] for figure in found],
        [figure["residentBytes"] / 1e6 for figure in found],
        color=LOOKUP,
        marker="o",
        markersize=3,
    )
    axes.margins(y=0.15)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.set_xlabel("calls")
    axes.set_ylabel("resident megabytes")
    save(figure, "memory")


DRAWN = {
    draw_callers: ("callers",),
    draw_processes: ("processes", "connections"),
    draw_keys: ("keys",),
    draw_ledger: ("ledger",),
    draw_reservations: ("reservations",),
    draw_memory: ("memory",),
}


def main() -> None:
    data = take_in_what_was_measured()
    for draw, parts in DRAWN.items():
        missing = [part for part in parts if part not in data]
        if missing:
            print(f"not measured: {', '.join(missing)}")
        else:
            draw(data)


if __name__ == "__main__":
    main()
