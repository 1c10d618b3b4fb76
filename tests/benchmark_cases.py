"""Tiny cases for the tests of the benchmark."""

from tf_optim import specs
from tf_optim.benchmark import cases, rows
from tf_optim.benchmark.work import Work, plan

NAMES = tuple(specs.SPECS)
DENSE = cases.Case("tiny-dense", "40 numbers", "dense", ((8, 4), (8,)))
TABLE = cases.Case("tiny-table", "a table", "sparse", ((64, 4),), ids=32, zipf=1.2)
TABLES = cases.Case("tiny-tables", "tables", "sparse", ((64, 4), (5, 4)), ids=32)
# No batch names a row twice, which several peers get wrong; some rows are in two.
APART = cases.Case("tiny-apart", "a table", "sparse", ((64, 4),), ids=12)
FIT = cases.Case("tiny-fit", "a model", "fit", ((64, 4),), ids=128, zipf=1.2)


def plain(case, name):
    """The work of an optimizer without options."""
    (work,) = (w for w in plan([case], [name]) if not w.options)
    return work


# Of a JSON record.
KEYS = {
    "case",
    "optimizer",
    "subject",
    "way",
    "ms",
    "spread",
    "rounds",
    "bytes",
    "gbps",
    "limit_fraction",
    "base",
    "ratio_to_ours",
    "extra_mb",
    "note",
}
_RMSPROP = {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7}


def rmsprop(case):
    return Work(case, "RMSprop", {}, _RMSPROP, {"velocity": 0.0})


def ready(moved=10**9, lazy=True, note=""):
    """What a worker answers of a subject that may be timed."""
    return {"bytes": moved, "extra_mb": 0.5, "note": note, "lazy": lazy}


def rows_of(work, figures, about=None):
    """The records of the seconds of each round, by subject.

    Args:
        work: a `Work`.
        figures: subject -> seconds, one for each round.
        about: subject -> `ready`, where it is not the same for all.
    """
    rounds = [
        rows.Round(dict(zip(figures, each, strict=True)))
        for each in zip(*figures.values(), strict=True)
    ]
    answers = dict.fromkeys(figures, ready()) | (about or {})
    return rows.make_rows(rows.Record(work, answers, rounds))
