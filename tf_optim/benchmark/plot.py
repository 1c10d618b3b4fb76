"""Pictures of the records: a summary, and a chart of each case.

A summary has a group of bars per kind of step; a chart has a line per optimizer and a
mark per subject. Times are on a logarithmic scale.
"""

import hashlib
import json
import pathlib

from tf_optim.benchmark import cases, report, subjects

_OURS, _KERAS, _TORCH, _OTHER = "#1a73e8", "#e8710a", "#7b1fa2", "#80868b"
_INK, _LINES = "#202124", "#dadce0"
_LIGHT = {_OURS: "#8ab4f8", _KERAS: "#fbbc8a"}
# Of a chart: the subject, its mark and color. Calls point to the right.
_MARKS = {
    subjects.OURS: ("o", _OURS),
    "ours jit": ("s", _LIGHT[_OURS]),
    subjects.OURS_DENSE: ("D", "#174ea6"),
    subjects.OURS_FUNCTION: (">", _OURS),
    "ours, concrete": (">", _LIGHT[_OURS]),
    subjects.OURS_LOOKUP: ("<", _OURS),
    "keras3 graph": ("o", _KERAS),
    "keras3 jit": ("s", _LIGHT[_KERAS]),
    "keras3 function": (">", _KERAS),
    "keras3 jit function": (">", _LIGHT[_KERAS]),
    "tf_keras": ("o", "#a0522d"),
    "tf_keras legacy": ("^", "#c8a27f"),
    "tf_keras function": (">", "#a0522d"),
    "tf_keras legacy function": (">", "#c8a27f"),
    "tf raw op": ("P", _OTHER),
    "tf lazy recipe": ("p", _OTHER),
    "tf raw op function": (">", _OTHER),
    "torch fused": ("o", _TORCH),
    "torch foreach": ("s", _TORCH),
    "torch for-loop": ("^", _TORCH),
    "torch compile": ("D", _TORCH),
    "torch sparse": ("o", _TORCH),
    "torch sparse, after lookup": ("<", _TORCH),
    "fbgemm": ("X", "#188038"),
    "fbgemm op": ("x", "#188038"),
    "fbgemm, forward long before": ("X", "#188038"),
    subjects.LIMIT: ("|", _INK),
}
_ANY = (".", _OTHER)

# Of the summary: what a group is of, its title, and our subjects, of which the first
# that was measured is drawn; Adam in all of them.
_LOOP, _TABLE = (subjects.OURS,), (subjects.OURS_DENSE,)
_CALLED = (subjects.OURS_FUNCTION, "ours, concrete")
_GROUPS = (
    ("dense", "16.8M parameters\nin a loop", _LOOP),
    ("dense", "16.8M parameters\ncalled from Python", _CALLED),
    ("many-small", "300 variables of 256\nin a loop", _LOOP),
    ("many-small", "300 variables of 256\ncalled from Python", _CALLED),
    ("resnet50", "ResNet-50, 25.6M\nin a loop", _LOOP),
    ("resnet50", "ResNet-50, 25.6M\ncalled from Python", _CALLED),
    ("sparse-uniform", "embedding, Keras'\nresult, in a loop", _TABLE),
    ("sparse-uniform", "embedding, rows alone\ncalled from Python", _CALLED),
    ("fit", "model.fit, embedding\nKeras' result", _TABLE),
)
_WITH_LIMIT = ("dense", "resnet50")
_BARS = (
    ("tf_optim", _OURS, ()),
    ("Keras 3", _KERAS, ("keras3 graph", "keras3 function")),
    (
        "PyTorch",
        _TORCH,
        ("torch fused", "torch foreach", "torch for-loop", "torch sparse"),
    ),
)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _plain(axes):
    from matplotlib import ticker

    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", color=_LINES, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(lambda ms, _: f"{ms:g}")


def _save(pyplot, figure, path, records=""):
    # What a picture was made of: a test looks whether it is what is committed.
    figure.savefig(path, dpi=120, metadata={"Records": records, "Software": None})
    pyplot.close(figure)


def digest(record):
    """What a picture says that it was made of."""
    text = json.dumps(record["rows"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _bars(record, case, ours):
    """{bar: its record} of a group of the summary, and that of its limit."""
    rows = {
        row["subject"]: row
        for row in record["rows"]
        if (row["case"], row["optimizer"]) == (case, "Adam")
    }
    base = next((name for name in ours if name in rows), None)
    if base is None:
        return {}, None
    found = {"tf_optim": rows[base]}
    for name, _, wanted in _BARS[1:]:
        peers = [rows[each] for each in wanted if each in rows]
        peers = [row for row in peers if row["base"] == base]
        if peers:
            found[name] = min(peers, key=lambda row: row["ms"])
    # Of dense steps of a size that counts; others need an explanation.
    return found, rows.get(subjects.LIMIT) if case in _WITH_LIMIT else None


def write_summary(path, record):
    """Draws what README.md shows: one step of Adam, ours and others'.

    Args:
        path: the PNG file to write.
        record: what `report.write_json` wrote, loaded.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 7.2), layout="constrained")
    height, labels = 0.25, {}
    groups = [(title, *_bars(record, case, ours)) for case, title, ours in _GROUPS]
    groups = [group for group in groups if "tf_optim" in group[1]]
    for at, (_, found, limit) in enumerate(groups):
        for bar, (name, color, _) in enumerate(_BARS):
            if name not in found:
                continue
            y = at + (bar - 1) * height
            ms = found[name]["ms"]
            labels[name] = axes.barh(y, ms, height * 0.9, color=color, left=0)
            text = f" {report.number(ms)} ms"
            if name != "tf_optim":
                text += f"  ({report.number(found[name]['ratio_to_ours'], 2)}x)"
            axes.text(ms, y, text, va="center", size=9, color=_INK)
        if limit is not None:
            ends = [at - 1.5 * height, at + 1.5 * height]
            (line,) = axes.plot([limit["ms"]] * 2, ends, "k:", lw=1.4)
            labels["the memory's limit"] = line
    axes.set_yticks(range(len(groups)), [title for title, *_ in groups], size=9.5)
    axes.set_ylim(len(groups) - 0.45, -0.55)
    _plain(axes)
    shown = [row["ms"] for _, found, _ in groups for row in found.values()]
    axes.set_xlim(0.6 * min(shown), 10 * max(shown))  # room for the numbers
    axes.set_xlabel("milliseconds of one step of Adam (logarithmic; less is better)")
    figure.legend(
        labels.values(), labels.keys(), loc="outside upper left", ncols=4, frameon=False
    )
    _save(pyplot, figure, path, digest(record))


def _draw(axes, title, rows):
    """A line per optimizer, a mark per subject."""
    optimizers = list(dict.fromkeys(row["optimizer"] for row in rows))
    for at, optimizer in enumerate(optimizers):
        mine = [row for row in rows if row["optimizer"] == optimizer]
        times = [row["ms"] for row in mine]
        axes.plot([min(times), max(times)], [at, at], color=_LINES, lw=1, zorder=1)
        for row in mine:
            mark, color = _MARKS.get(row["subject"], _ANY)
            size = {"|": 120, ".": 30}.get(mark, 34)
            above = 3 if row["subject"] == subjects.OURS else 2
            axes.scatter(row["ms"], at, size, color, marker=mark, zorder=above, lw=1.2)
    axes.set_yticks(range(len(optimizers)), optimizers, size=8.5)
    axes.set_ylim(len(optimizers) - 0.4, -0.6)
    axes.set_title(title, size=10, loc="left", weight="bold")
    _plain(axes)


def write_plot(path, rows, about, records=""):
    """Draws `rows` into the file `path`, a chart per case.

    Args:
        path: the PNG file to write.
        rows: those of the records.
        about: what they were taken on.
        records: what the picture is to say that it was made of.
    """
    pyplot = _pyplot()
    charts = {}
    for row in rows:
        charts.setdefault(row["case"], []).append(row)
    lines = [len({row["optimizer"] for row in each}) for each in charts.values()]
    figure, grid = pyplot.subplots(
        len(charts),
        figsize=(8, 1.3 + sum(0.5 + 0.26 * count for count in lines)),
        height_ratios=[count + 1 for count in lines],
        squeeze=False,
        layout="constrained",
    )
    titles = {case.name: case.title for case in cases.CASES}
    for axes, (case, each) in zip(grid[:, 0], charts.items(), strict=True):
        _draw(axes, titles.get(case, case), each)
    figure.supxlabel(
        "milliseconds of one step (logarithmic; less is better)\n"
        f"{about['processor']}, {about['threads']} threads",
        size=8.5,
    )
    present = dict.fromkeys(row["subject"] for row in rows)
    shown = [
        pyplot.Line2D([], [], ls="", marker=mark, color=color, label=name)
        for name in present
        for mark, color in [_MARKS.get(name, _ANY)]
    ]
    figure.legend(
        handles=shown, loc="outside upper left", ncols=5, frameon=False, fontsize=8.5
    )
    _save(pyplot, figure, path, records)


def write_charts(path):
    """Draws the pictures that are committed, beside the records.

    `benchmark.json` has its summary in `benchmark.png` and the chart of each case in
    `benchmark-CASE.png`.

    Args:
        path: the file that `report.write_json` wrote. One that joins several runs says
            in `machines` which machine a case was taken on, where it is another.

    Returns:
        The files written.
    """
    path = pathlib.Path(path)
    record = json.loads(path.read_text())
    written = [path.with_suffix(".png")]
    write_summary(written[0], record)
    for case in dict.fromkeys(row["case"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["case"] == case]
        written.append(path.with_name(f"{path.stem}-{case}.png"))
        machine = record.get("machines", {}).get(case, record["machine"])
        write_plot(written[-1], rows, machine, digest(record))
    return written
