"""Tiny cases for the tests of the benchmark."""

from tf_optim import specs
from tf_optim.benchmark import cases
from tf_optim.benchmark.work import plan

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
