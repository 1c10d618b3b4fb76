"""The tables of README.md and docs/performance.md, from the command's JSON file.

A cell is how many times as long a peer takes as the same step of ours that is made
the same way: a loop beside a loop, a call beside a call, rows beside rows, whole
tables beside whole tables. What the peer's note says stands in brackets behind it.
"""

import re

from tf_optim.benchmark import cases, report, subjects

# (column, subjects of which the fastest is shown)
_LOOPS = (
    ("ours XLA", ("ours jit",)),
    ("Keras 3", ("keras3 graph",)),
    ("Keras 3 XLA", ("keras3 jit",)),
    ("tf_keras", ("tf_keras",)),
    ("tf_keras legacy", ("tf_keras legacy",)),
    ("raw TF op", ("tf raw op",)),
    ("TF recipe", ("tf lazy recipe",)),
)
_TORCH = ("torch fused", "torch foreach", "torch for-loop")
_CALLS = (
    ("ours, bfloat16 slots", ("ours, bfloat16 slots",)),
    ("Keras 3", ("keras3 function",)),
    ("Keras 3 XLA", ("keras3 jit function",)),
    ("tf_keras", ("tf_keras function",)),
    ("tf_keras legacy", ("tf_keras legacy function",)),
    ("raw TF op", ("tf raw op function",)),
    ("TF recipe", ("tf lazy recipe function",)),
    ("torch", _TORCH),
    ("torch, other malloc", ("torch foreach, allocator",)),
    ("torch.compile", ("torch compile",)),
    ("torch sparse", ("torch sparse",)),
    ("torch sparse, coalesced", ("torch sparse, coalesced",)),
    ("FBGEMM", ("fbgemm, forward long before",)),
)
_LOOKUPS = (
    ("torch sparse", ("torch sparse, after lookup",)),
    ("FBGEMM", ("fbgemm",)),
    ("FBGEMM's op", ("fbgemm op",)),
)
_CONCRETE = "ours, concrete"


def _percent(row):
    if row is None or row["limit_fraction"] is None:
        return "-"
    return f"{100 * row['limit_fraction']:.0f} %"


def _ms(row):
    return report.number(row["ms"]) if row else "-"


def _times(row, among=()):
    """A cell of a peer; of several, with the name of which it is."""
    if row is None:
        return "-"
    said = [row["subject"].removeprefix("torch ")] if len(among) > 1 else []
    note = re.sub(r"wrong in (.*) of numbers", r"\1 wrong", row["note"])
    said += [note] if note else []
    brackets = f" ({', '.join(said)})" if said else ""
    return f"{report.number(row['ratio_to_ours'], 2)}x{brackets}"


def _fastest(group, names, base):
    """The fastest of `names` that was compared with `base`; None without any."""
    found = [
        group[name] for name in names if name in group and group[name]["base"] == base
    ]
    return min(found, key=lambda row: row["ms"], default=None)


def _groups(record):
    """(case, optimizer) -> subject -> row, of optimizers without options."""
    groups = {}
    for row in record["rows"]:
        if "(" not in row["optimizer"]:
            group = groups.setdefault((row["case"], row["optimizer"]), {})
            group[row["subject"]] = row
    return groups


def _table(names, columns, lines):
    """Markdown of `lines`: the first cells and, in order, those of `columns`.

    Columns without a figure are left out.
    """
    kept = [
        i
        for i in range(len(columns))
        if any(line[len(names) + i] != "-" for line in lines)
    ]
    header = names + [columns[i][0] for i in kept]
    made = [
        "| " + " | ".join(header) + " |",
        "|---|---" + "|---:" * (len(header) - 2) + "|",
    ]
    for line in lines:
        cells = line[: len(names)] + [line[len(names) + i] for i in kept]
        made.append("| " + " | ".join(cells) + " |")
    return "\n".join(made)


def _peers(group, columns, base):
    return [_times(_fastest(group, of, base), of) for _, of in columns]


def _title(case):
    return {case.name: case.title for case in cases.CASES}.get(case, case)


def loops(record):
    """Steps in a loop inside of one function; a line for each of ours."""
    lines = []
    for (case, optimizer), group in _groups(record).items():
        for base, mode in ((subjects.OURS, ""), (subjects.OURS_DENSE, ', "dense"')):
            if base not in group:
                continue
            peers = _peers(group, _LOOPS, base)
            if base == subjects.OURS_DENSE and set(peers) == {"-"}:
                continue  # to the optimizer it is the same as the line before
            ours = group[base]
            first = [_title(case), optimizer + mode, _ms(ours), _percent(ours)]
            lines.append(first + peers)
    return _table(["one step", "optimizer", "ours, ms", "of limit"], _LOOPS, lines)


def calls(record):
    """A call from Python for each step."""
    lines = []
    for (case, optimizer), group in _groups(record).items():
        function, concrete = group.get(subjects.OURS_FUNCTION), group.get(_CONCRETE)
        base = subjects.OURS_FUNCTION if function else _CONCRETE
        if base in group:
            first = [_title(case), optimizer, _ms(function), _ms(concrete)]
            lines.append(first + _peers(group, _CALLS, base))
    names = ["one step", "optimizer", "ours, ms", "as a concrete function, ms"]
    return _table(names, _CALLS, lines)


def lookups(record):
    """A call for each step, the rows of which have just been looked up."""
    base = subjects.OURS_LOOKUP
    lines = [
        [_title(case), optimizer, _ms(group[base]), *_peers(group, _LOOKUPS, base)]
        for (case, optimizer), group in _groups(record).items()
        if base in group
    ]
    return _table(["one step", "optimizer", "ours, ms"], _LOOKUPS, lines)


def tables(record):
    """The tables of docs/performance.md, those that have lines.

    Args:
        record: what `report.write_json` wrote, loaded.
    """
    made = [loops(record), calls(record), lookups(record)]
    return [table for table in made if table.count("\n") > 1]


# Of README's table: the case, what the reader calls it, the optimizer, how the step
# is run and our subjects, of which the first that was measured is shown. Ten lines at
# most, those where others are faster among them.
_IN_LOOP = ("in a loop", (subjects.OURS,))
_DENSE_LOOP = ("in a loop", (subjects.OURS_DENSE,))
_CALLED = ("called", (subjects.OURS_FUNCTION, _CONCRETE))
_LOOKED_UP = ("called after a lookup", (subjects.OURS_LOOKUP,))
_SHORT = (
    ("dense", "16.8M parameters in one variable", "SGD", _CALLED),
    ("dense", "16.8M parameters in one variable", "Adam", _IN_LOOP),
    ("dense", "16.8M parameters in one variable", "Adam", _CALLED),
    ("resnet50", "ResNet-50, 25.6M parameters", "Adam", _CALLED),
    ("many-small", "300 variables of 256 parameters", "Adam", _IN_LOOP),
    ("many-small", "300 variables of 256 parameters", "Adam", _CALLED),
    ("sparse-uniform", 'embedding, `"dense"`', "Adam", _DENSE_LOOP),
    ("sparse-uniform", 'embedding, `"lazy"`', "Adam", _CALLED),
    ("sparse-uniform", 'embedding, `"lazy"`', "RowWiseAdagrad", _LOOKED_UP),
    ("fit", '`model.fit`, embedding, `"dense"`', "Adam", _DENSE_LOOP),
)
# The fastest subject of a column is shown; FBGEMM's are named in the cell.
_FBGEMM = ("fbgemm", "fbgemm op", "fbgemm, forward long before")
_SPARSE = ("torch sparse", "torch sparse, after lookup")
_TF_KERAS = "tf_keras", "tf_keras legacy"
_TF = "tf raw op", "tf lazy recipe"
_SHORT_PEERS = (
    ("Keras 3", ("keras3 graph", "keras3 function")),
    ("Keras 3, XLA", ("keras3 jit", "keras3 jit function")),
    ("tf_keras", (*_TF_KERAS, *(f"{name} function" for name in _TF_KERAS))),
    ("TensorFlow", (*_TF, *(f"{name} function" for name in _TF))),
    ("torch", (*_TORCH, *_SPARSE, *_FBGEMM)),
)


def summary(record):
    """README's table: a line for each kind of step that was measured.

    Args:
        record: as of `tables`.
    """
    groups = _groups(record)
    lines = []
    for case, title, optimizer, (way, ours) in _SHORT:
        group = groups.get((case, optimizer), {})
        base = next((name for name in ours if name in group), None)
        if base is None:
            continue
        run = f"{way}, concrete" if base == _CONCRETE else way
        cells = [title, optimizer, run, _ms(group[base])]
        for _, names in _SHORT_PEERS:
            peer = _fastest(group, names, base)
            is_fbgemm = peer is not None and peer["subject"] in _FBGEMM
            cells.append(_times(peer) + (" (FBGEMM)" if is_fbgemm else ""))
        lines.append(cells)
    names = ["one step", "optimizer", "how it is run", "tf_optim, ms"]
    return _table(names, _SHORT_PEERS, lines)
