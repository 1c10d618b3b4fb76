"""The tables of README.md and docs/performance.md, from the command's JSON file."""

from tf_optim.benchmark import cases, report, subjects

# (column, the subject it compares with ours)
_PEERS = (
    ("ours XLA", "ours jit"),
    ("Keras 3", "keras3 graph"),
    ("Keras 3 XLA", "keras3 jit"),
    ("tf_keras", "tf_keras"),
    ("raw TF op", "tf raw op"),
    ("torch", "torch"),
    ("torch sparse", "torch sparse"),
    ("FBGEMM", "fbgemm"),
)


def _percent(row):
    if row is None or row["limit_fraction"] is None:
        return "-"
    return f"{100 * row['limit_fraction']:.0f} %"


def _times(row):
    if row is None:
        return "-"
    return f"{report.number(row['ratio_to_ours'], 2)}x"


def table(record):
    """Markdown: a line per case and plain optimizer, how much slower each peer is.

    Args:
        record: what `report.write_json` wrote, loaded.
    """
    titles = {case.name: case.title for case in cases.CASES}
    rows = {}
    for row in record["rows"]:
        rows.setdefault((row["case"], row["optimizer"]), {})[row["subject"]] = row
    shown = {
        key: group
        for key, group in rows.items()
        if "(" not in key[1] and subjects.OURS in group
    }
    peers = [
        (column, name)
        for column, name in _PEERS
        if any(name in group for group in shown.values())
    ]
    names = ["one step", "optimizer", "ours, ms", "of limit", "called, ms"]
    lines = [
        "| " + " | ".join(names + [column for column, _ in peers]) + " |",
        "|---|---" + "|---:" * (len(peers) + 3) + "|",
    ]
    for (case, optimizer), group in shown.items():
        ours = group[subjects.OURS]
        cells = [
            titles[case],
            optimizer,
            report.number(ours["ms"]),
            _percent(ours),
            report.number(group.get("ours, called", {}).get("ms")),
            *(_times(group.get(name)) for _, name in peers),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# Of README's table: the case, what the reader calls it, the optimizer and our subject.
_SHORT = (
    ("dense", "16.8M parameters in one variable", "SGD", subjects.OURS),
    ("dense", "16.8M parameters in one variable", "Adam", subjects.OURS),
    ("many-small", "300 variables of 256 parameters", "Adam", subjects.OURS),
    ("resnet50", "ResNet-50, 25.6M parameters", "Adam", subjects.OURS),
    ("sparse-uniform", "8,192 uniform ids, `dense`", "Adam", "ours, dense update"),
    ("sparse-uniform", "8,192 uniform ids, `lazy`", "Adam", subjects.OURS),
    ("sparse-uniform", "8,192 uniform ids, `lazy`", "Adagrad", subjects.OURS),
    ("sparse-zipf", "8,192 Zipf ids, `lazy`", "Adam", subjects.OURS),
    ("fit", "`model.fit`, embedding, `lazy`", "Adam", subjects.OURS),
)
_SHORT_PEERS = (
    ("Keras 3", ("keras3 graph",)),
    ("Keras 3, XLA", ("keras3 jit",)),
    ("tf_keras", ("tf_keras",)),
    ("torch", ("torch", "torch sparse")),
    ("FBGEMM", ("fbgemm",)),
)


def summary(record):
    """Markdown: README's table, a line for each kind of step.

    Args:
        record: as of `table`.
    """
    rows = {(r["case"], r["optimizer"], r["subject"]): r for r in record["rows"]}
    names = [
        "one step",
        "optimizer",
        "tf_optim, ms",
        *(name for name, _ in _SHORT_PEERS),
    ]
    lines = [
        "| " + " | ".join(names) + " |",
        "|---|---" + "|---:" * (len(names) - 2) + "|",
    ]
    for case, title, optimizer, subject in _SHORT:
        ours = rows[case, optimizer, subject]
        cells = [title, optimizer, report.number(ours["ms"])]
        for _, peers in _SHORT_PEERS:
            if subject != subjects.OURS:  # there torch takes another step
                peers = [peer for peer in peers if "keras" in peer]
            found = [rows.get((case, optimizer, peer)) for peer in peers]
            peer = next((row for row in found if row is not None), None)
            ratio = peer and peer["ratio_to_ours"] / ours["ratio_to_ours"]
            cells.append(f"{report.number(ratio, 2)}x" if ratio else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
