"""The table of README.md, made from a JSON file that the command wrote."""

from tf_optim.benchmark import cases, report

# (column, the subject it compares with ours)
_PEERS = (
    ("Keras 3", "keras3 graph"),
    ("Keras 3 XLA", "keras3 jit"),
    ("tf_keras", "tf_keras"),
    ("raw TF op", "tf raw op"),
    ("torch", "torch"),
    ("torch sparse", "torch sparse"),
)


def _times(row):
    if row is None:
        return "-"
    return f"{report.number(row['ratio_to_ours'], 2)}x"


def table(record, optimizers=("Adam", "RMSprop")):
    """Markdown: a line per case and optimizer, how much slower each peer is.

    Args:
        record: what `report.write_json` wrote, loaded.
        optimizers: those to show, without variants.
    """
    titles = {case.name: case.title for case in cases.CASES}
    rows = {}
    for row in record["rows"]:
        rows.setdefault((row["case"], row["optimizer"]), {})[row["subject"]] = row
    names = ["one step", "optimizer", "ours, ms", "of limit"]
    lines = [
        "| " + " | ".join(names + [column for column, _ in _PEERS]) + " |",
        "|---|---" + "|---:" * (len(_PEERS) + 2) + "|",
    ]
    for (case, optimizer), subjects in rows.items():
        if optimizer not in optimizers or "ours" not in subjects:
            continue
        ours = subjects["ours"]
        limit = ours["limit_fraction"]
        cells = [
            titles[case],
            optimizer,
            report.number(ours["ms"]),
            "-" if limit is None else f"{100 * limit:.0f} %",
            *(_times(subjects.get(subject)) for _, subject in _PEERS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
