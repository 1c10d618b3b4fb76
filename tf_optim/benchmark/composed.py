"""Optimizers whose steps are composed of TensorFlow's operations, which are no rules.

    python -m tf_optim.benchmark.composed [--optimizer NAME] [--case CASE] [--json F]

Beside ours there are Keras' optimizer of the same name, where there is one, and our
Adam, whose step is one op. All take turns in one process, as in
`python -m tf_optim.benchmark.features`, and a ratio is taken within each round.
"""

import functools
import sys

from tf_optim.benchmark import cases, command, turns, work

OPTIMIZERS = (
    "Adafactor",
    "ConditionalGradient",
    "Muon",
    "NovoGrad",
    "Prodigy",
    "SM3",
)
STOCK = ("Adafactor",)  # Keras' Muon refuses the cases' tf.Variables
CASES = ("dense", "resnet50", "many-small")
ROUNDS = 9


def measure(case, optimizers=OPTIMIZERS, say=lambda text: print(text, file=sys.stderr)):
    """Rows of the table: dicts of case, optimizer, and figures.

    Args:
        case: the name of a case.
        optimizers: names of classes.
        say: is told what goes on.
    """
    from tf_optim.benchmark import tf_subjects

    (chosen,) = cases.select([case])
    inputs = cases.Inputs(chosen)

    def subject(base, name):
        say(f"{case}: making {base.__name__} {name}")
        made = base(work.Work(chosen, name, {}, {}, {}), inputs)
        made.make_step()
        made.tune()
        return made

    rows = []
    for name in optimizers:
        subjects = {"Adam": subject(tf_subjects.Ours, "Adam")}
        subjects["ours"] = subject(tf_subjects.Ours, name)
        if name in STOCK:
            subjects["stock"] = subject(tf_subjects.Keras, name)
        told = f"{case}, {name}: round {{}} of {ROUNDS}"
        times = turns.take(subjects, ROUNDS, lambda i, told=told: say(told.format(i)))
        row = {"case": case, "optimizer": name}
        row["ours"] = turns.figure(times["ours"], times["Adam"])
        if "stock" in times:
            row["stock"] = turns.figure(times["stock"], times["ours"])
        rows.append(row)
    return rows


def table(rows):
    """The rows as Markdown."""
    lines = [
        "| case | optimizer | ours, ms | of our Adam | Keras, ms | of ours |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [row["case"], row["optimizer"]]
        for make in ("ours", "stock"):
            cells += turns.cells(row.get(make))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments=None):
    parser = command.parser(__doc__, CASES, default=None)
    options = parser.parse_args(arguments)
    chosen = [options.optimizer] if options.optimizer else OPTIMIZERS
    measured = functools.partial(measure, optimizers=chosen)
    rows = command.rows_of(options.case, CASES, measured)
    command.show(table(rows), rows, options.json)


if __name__ == "__main__":
    main()
