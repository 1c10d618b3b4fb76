"""Optimizers that count: a gradient of 1 moves an element by exactly 1."""

import pytest

from tests import cases

_COUNTERS = {
    "Adam": {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 0.0},
    "RMSprop": {"rho": 0.0, "epsilon": 0.0},
}

counters = pytest.mark.parametrize(
    "case",
    [case for case in cases.CASES if case.name in _COUNTERS and not case.arguments],
    ids=str,
)


def moves_by_one(case):
    """Constructor arguments; with `learning_rate=1.0` it counts."""
    return _COUNTERS[case.name]
