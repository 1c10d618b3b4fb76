"""What "exact" costs: a lookup and a step, beside "lazy", "dense" and stock.

    python -m tf_optim.benchmark.exact [--optimizer Adam] [--case uniform] [--json F]

A step looks rows up, makes a gradient that depends on them, and applies it, in a loop
inside a function. Ids come from many batches, so that most of the rows were last
seen hundreds of steps ago. All subjects of a case live in one process and take
turns; a figure is the median over rounds, its spread half of the range of the middle
half. A ratio is taken within each round, to the first subject of the case.
"""

import dataclasses
import functools
import gc
import os
import sys
import time

from tf_optim.benchmark import cases, command, turns, work

ROUNDS = 11
_GB = 1e9


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The tables of all cases.

    Attributes:
        rows: of the table.
        width: its columns.
        ids: of a step.
        batches: of ids that the steps cycle through.
        growth: rows of the growing table.
        growth_width: its columns.
        idle: how many steps lie before a whole catch-up.
    """

    rows: int = 1_000_000
    width: int = 64
    ids: int = 8192
    batches: int = 512
    growth: tuple = (100_000, 1_000_000, 10_000_000)
    growth_width: int = 16
    idle: tuple = (1, 64, 1000)


QUICK = Sizes(rows=100_000, width=16, batches=64, growth=(20_000, 200_000))


@dataclasses.dataclass(frozen=True)
class Part:
    """One subject of a case.

    Attributes:
        name: what the table prints.
        mode: of `sparse_update`, or "stock".
        rows: of its table.
        width: the table's columns.
        zipf: exponent of the distribution of ids; None is uniform.
        options: arguments of the optimizer.
        idle: what is timed is a whole catch-up after so many steps; None for a step.
    """

    name: str
    mode: str
    rows: int
    width: int
    zipf: float | None = None
    options: dict = dataclasses.field(default_factory=dict)
    idle: int | None = None

    def bytes(self, slots):
        """What it holds: a table of float32, its slots, an average.

        Args:
            slots: how many the optimizer has of the table's shape.
        """
        tables = 1 + slots + bool(self.options.get("use_ema"))
        # Stock makes such tables in every step, too.
        tables += 2 * (self.mode == "stock")
        return 4 * self.rows * self.width * tables


def parts_of(sizes):
    """The subjects of each case, by its name; ratios are to the first."""

    def part(name, mode, **fields):
        return Part(name, mode, **{"rows": sizes.rows, "width": sizes.width, **fields})

    def steps(zipf):
        return [
            part("lazy lookup + step", "lazy", zipf=zipf),
            part("exact lookup + step", "exact", zipf=zipf),
            part("eventual", "eventual", zipf=zipf),
            part("dense", "dense", zipf=zipf),
            part("stock", "stock", zipf=zipf),
        ]

    def growth(mode):
        return [
            part(f"{mode}, {rows:,} rows", mode, rows=rows, width=sizes.growth_width)
            for rows in sizes.growth
        ]

    return {
        "uniform": steps(None),
        "zipf": steps(1.2),
        "growth-lazy": growth("lazy"),
        "growth-exact": growth("exact"),
        "catch-up": [
            part("dense step", "dense"),
            *(
                part(f"catch_up() after {idle:,} steps", "exact", idle=idle)
                for idle in sizes.idle
            ),
        ],
        "use_ema": [
            part("exact", "exact"),
            part("exact, use_ema", "exact", options={"use_ema": True}),
        ],
    }


def memory():
    """Bytes that a case may take: half of what the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@functools.cache
def _work(optimizer):
    """The optimizer without options; on which case is another question."""
    (plain,) = (w for w in work.plan(cases.CASES[:1], [optimizer]) if not w.options)
    return plain


def subject(part, optimizer, inputs):
    """The part as a subject of the benchmark, ready to step.

    Args:
        part: the `Part`.
        optimizer: the name of an optimizer.
        inputs: `cases.Inputs` of a table of its size.
    """
    import tensorflow as tf

    import tf_optim
    from tf_optim.benchmark import tf_subjects

    base = tf_subjects.Keras if part.mode == "stock" else tf_subjects.Ours
    look = tf_optim.lookup if part.mode == "exact" else tf.gather

    class Subject(base):
        def choose(self, work_, case):
            super().choose(work_, case)
            if part.mode != "stock":
                self._cls = functools.partial(self._cls, sparse_update=part.mode)

        def apply(self, grads):
            (given,), (table,) = grads, self._variables
            rows = look(table, given.indices)
            values = given.values + 0.01 * rows
            super().apply([tf.IndexedSlices(values, given.indices, given.dense_shape)])

    class CatchUp(Subject):
        def tune(self):
            """A call makes one whole catch-up."""

        def seconds(self):
            self._make_steps(part.idle)
            start = time.perf_counter()
            self._optimizer.catch_up()
            return time.perf_counter() - start

    work_ = dataclasses.replace(
        _work(optimizer), case=inputs.case, options=part.options
    )
    return (Subject if part.idle is None else CatchUp)(work_, inputs)


def inputs_of(part, sizes):
    """What the part's table starts with and its batches of ids."""
    return cases.Inputs(
        cases.Case(
            name=f"{part.rows}x{part.width}",
            title=f"{sizes.ids:,} ids into {part.rows:,} x {part.width}",
            kind="sparse",
            shapes=((part.rows, part.width),),
            ids=sizes.ids,
            zipf=part.zipf,
            batches=sizes.batches,
        )
    )


def that_fit(parts, optimizer):
    """Those of a case's parts for which there is memory, and rows about the others."""
    fit, skipped, taken, there = [], [], 0, memory()
    for part in parts:
        needed = part.bytes(_work(optimizer).full_slots)
        if taken + needed <= there:
            taken += needed
            fit.append(part)
        else:
            why = (
                f"skipped: needs {needed / _GB:.2g} GB beside the others' "
                f"{taken / _GB:.2g} GB, and a case may have {there / _GB:.2g} GB"
            )
            skipped.append({"subject": part.name, "skipped": why})
    return fit, skipped


def measure(
    case,
    optimizer,
    sizes,
    rounds=ROUNDS,
    say=lambda text: print(text, file=sys.stderr),
):
    """Rows of the table: dicts of case, subject, and figures or why there are none.

    Args:
        case: the name of a case.
        optimizer: the name of an optimizer.
        sizes: the `Sizes`.
        rounds: how many turns each subject has.
        say: prints what is being done.
    """
    fit, skipped = that_fit(parts_of(sizes)[case], optimizer)
    inputs, subjects = {}, {}
    for part in fit:
        say(f"{case}: making {part.name}")
        key = part.rows, part.width, part.zipf
        if key not in inputs:
            inputs[key] = inputs_of(part, sizes)
        subjects[part.name] = made = subject(part, optimizer, inputs[key])
        made.step()
        made.tune()
    times = turns.take(
        subjects, rounds, lambda i: say(f"{case}: round {i} of {rounds}")
    )
    rows = []
    for name in subjects:
        rows.append({"subject": name, **turns.figure(times[name], times[fit[0].name])})
    subjects.clear()
    gc.collect()  # tables, before the next case makes its own
    return [{"case": case, **row} for row in rows + skipped]


def table(rows):
    """The rows as Markdown."""
    lines = ["| case | subject | ms | of the first |", "|---|---|---:|---:|"]
    for row in rows:
        cells = [row["case"], row["subject"]]
        if "skipped" in row:
            cells += [row["skipped"], ""]
        else:
            cells.append(f"{row['ms']:.3g} +- {row['ms_spread']:.2g}")
            cells.append(f"{row['ratio']:.3g}x +- {row['spread']:.2g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments=None):
    parser = command.parser(__doc__, parts_of(QUICK))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="small tables")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else Sizes()

    def measured(case):
        return measure(case, options.optimizer, sizes, options.rounds)

    rows = command.rows_of(options.case, parts_of(sizes), measured)
    command.show(table(rows), rows, options.json)


if __name__ == "__main__":
    main()
