"""The marks and parameters that test modules have in common."""

import pytest

from tests import cases

try:
    import tensorflow as tf
except ModuleNotFoundError:  # tests/gpu_check.py
    _TENSORFLOW = (0, 0)
else:
    _TENSORFLOW = tuple(map(int, tf.__version__.split(".")[:2]))

both_flavours = pytest.mark.both_flavours
keras_3_only = pytest.mark.keras_3_only
# On a CPU XLA calls the drivers; before that the step is a computation.
xla_calls = pytest.mark.skipif(
    _TENSORFLOW < (2, 18),
    reason="XLA calls no functions of others before TensorFlow 2.18",
)


def _marked(marks_of, chosen=cases.RICHEST):
    return pytest.mark.parametrize(
        "case", [pytest.param(case, marks=marks_of(case)) for case in chosen], ids=str
    )


def _stock(case):
    return () if case.optimizer.in_stock[1] else keras_3_only


def _kind(case):
    return () if case in cases.KINDS else pytest.mark.exhaustive


def _few(case):
    return () if case in cases.A_FEW else pytest.mark.exhaustive


every_case = pytest.mark.parametrize("case", cases.CASES, ids=str)
richest = pytest.mark.parametrize("case", cases.RICHEST, ids=str)
# Where a rule's mechanism counts, and not its formula.
kinds = _marked(_kind, (*cases.RICHEST, cases.CAUTIOUS_ADAM))
# The same of those that stock has.
every_stock_case = _marked(_stock, cases.STOCK_CASES)
stock_richest = _marked(_stock, cases.STOCK_RICHEST)
stock_kinds = _marked(lambda c: _kind(c) or _stock(c), cases.STOCK_RICHEST)
# What depends on the rule through what other tests look at, and takes long.
few = _marked(_few)
stock_few = _marked(_few, cases.STOCK_RICHEST)
# For what does not depend on the rule.
a_few = pytest.mark.parametrize("case", cases.A_FEW, ids=str)
modes = pytest.mark.parametrize("mode", ["lazy", "dense"])
both_ways = pytest.mark.parametrize("graph", [False, True], ids=["eager", "function"])
every_dtype = pytest.mark.parametrize("dtype", cases.DTYPES)
every_index_dtype = pytest.mark.parametrize("index_dtype", cases.INDEX_DTYPES)

# Each combination is in the default run.
every = pytest.mark.every
exhaustive = pytest.mark.exhaustive
exhaustive_twin = pytest.mark.exhaustive_twin
