"""Numbers of the raw ops: those out of range, and rates of each variable's own."""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases
from tests.marks import a_few, richest
from tests.op_errors_test import good
from tests.raw_ops import Variables

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


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@richest
def test_each_variable_has_its_learning_rate(case, sparse):
    """The same bits as those of an op for each."""
    rates = np.array([0.01, 0.5])
    decays = np.array([0.1, 0.2])

    def step(rate, decay, chosen):
        variables, grads = good(case)
        arrays = [variables.after(i) for i in chosen]
        variables, grads = Variables(case, arrays), [grads[i] for i in chosen]
        numbers = {"learning_rate": tf.constant(rate), "weight_decay": decay}
        if sparse:
            ids = [tf.constant([1, 4, 1])] * len(grads)
            variables.sparse_apply([grad[:3] for grad in grads], ids, **numbers)
        else:
            variables.apply(grads, **numbers)
        return [variables.after(i) for i in range(len(chosen))]

    together = step(rates, decays, [0, 1])
    for i, (var, slots) in enumerate(together):
        ((expected, expected_slots),) = step(rates[i], decays[i : i + 1], [i])
        np.testing.assert_array_equal(var, expected)
        assert slots.keys() == expected_slots.keys()
        for name, slot in slots.items():
            np.testing.assert_array_equal(slot, expected_slots[name])


def test_xla_takes_one_learning_rate():
    case = cases.CASES[0]
    variables, grads = good(case)
    before = variables.bytes()
    step = tf.function(variables.apply, jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a scalar under XLA"):
        step(grads, learning_rate=tf.constant([0.1, 0.1]))
    assert variables.bytes() == before


@a_few
def test_learning_rate_that_is_nan_shows(case):
    """As in stock: no step hides it."""
    variables, grads = good(case)
    variables.apply(grads, learning_rate=tf.constant(np.nan))
    for variable in variables.var:
        assert np.isnan(variable.numpy()).all()
