"""Numbers of the raw ops that are out of range: an error, and nothing written."""

import numpy as np
import pytest
import tensorflow as tf

from tests.marks import a_few, richest
from tests.op_errors_test import good

FRACTIONS = ("beta_1", "beta_2", "beta_3", "rho", "momentum_rate")
FRACTIONS += ("mu", "mu_next", "mu_product", "slow_beta", "eta_minus")


def bad_numbers(case):
    """(hyperparameter, value, what the message says is expected)."""
    for name in case.op_hyper(0):
        expected, wrong = "a finite number >= 0", [-0.5]
        if name in case.optimizer.bounds:
            expected, outside = case.optimizer.bounds[name]
            wrong = [outside]
        elif name in FRACTIONS:
            closed = case.name == "Lion" or case.name == "SGD"
            expected = "in [0, 1]" if closed else "in [0, 1)"
            wrong = [-0.5, 1.5] if closed else [-0.5, 1.0]
        elif name == "learning_rate_power":
            expected, wrong = "a finite number <= 0", [0.5]
        for value in (*wrong, np.nan, np.inf, -np.inf):
            yield name, value, expected


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@richest
def test_numbers_out_of_range(case, sparse):
    variables, grads = good(case)
    before = variables.bytes()
    bad = list(bad_numbers(case))
    assert {name for name, *_ in bad} == set(case.op_hyper(0))
    for name, value, expected in bad:
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            if sparse:
                variables.sparse_apply(grads, [tf.range(10)] * 2, **{name: value})
            else:
                variables.apply(grads, **{name: value})
        message = f"{name} must be {expected}. Received: {value:g}."
        assert message in str(error.value)
        assert variables.bytes() == before


@richest
def test_numbers_out_of_range_that_xla_sees(case):
    variables, grads = good(case)
    before = variables.bytes()
    name, value, expected = next(bad_numbers(case))

    @tf.function(jit_compile=True)
    def step(**changed):
        variables.apply(grads, **changed)

    for changed, message in (
        ({name: value}, f"{name} must be {expected}. Received: {value:g}."),
        ({"clip_value": -1.0}, "clip_value must be >= 0. Received: -1."),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            step(**changed)
        assert message in str(error.value)
    assert variables.bytes() == before


@a_few
def test_learning_rate_that_is_nan_shows(case):
    """As in stock: no step hides it."""
    variables, grads = good(case)
    variables.apply(grads, learning_rate=tf.constant(np.nan))
    for variable in variables.var:
        assert np.isnan(variable.numpy()).all()
