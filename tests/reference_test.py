"""The oracle itself, against stock Keras computing in float64."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, models, numerics
from tf_optim import reference

pytestmark = pytest.mark.both_flavours


def single(value):
    """The float32 nearest to a float; stock takes some through float32."""
    return float(np.float32(value)) if isinstance(value, float) else value


LEARNING_RATE = single(0.01)


def stock(case, **common):
    arguments = {**case.hyper, **case.arguments, **common}
    if initial := [slot.initial for slot in case.slots if slot.initial]:
        arguments["initial_accumulator_value"] = initial[0]
    known = inspect.signature(getattr(tf.keras.optimizers, case.name, print)).parameters
    return models.stock(
        case,
        LEARNING_RATE,
        **{k: single(v) for k, v in arguments.items() if k in known},
    )


def hyper(case):
    return {key: single(value) for key, value in case.hyper.items()}


def start(case, shape):
    p = np.random.default_rng(0).normal(size=shape)
    return p, {slot.name: slot.start(p, single) for slot in case.slots}


@pytest.mark.parametrize("case", cases.STOCK_CASES, ids=str)
def test_reference_is_stock_in_float64(case):
    p, slots = start(case, (5, 3))
    variable = tf.Variable(p)
    optimizer = stock(case)
    rng = np.random.default_rng(1)
    for iterations in range(30):
        grad = rng.normal(size=p.shape)
        optimizer.apply_gradients([(tf.constant(grad), variable)])
        p, slots = reference.step(
            case.name, p, slots, grad, hyper(case), LEARNING_RATE, iterations
        )
        np.testing.assert_allclose(variable.numpy(), p, rtol=case.optimizer.stock_rtol)


@pytest.mark.parametrize("case", cases.STOCK_RICHEST, ids=str)
def test_clipping_and_decay_are_stock_in_float64(case):
    p, slots = start(case, (7,))
    variable = tf.Variable(p)
    clip_value, decay = single(0.4), single(0.1)
    optimizer = stock(case, clipvalue=clip_value, weight_decay=decay)
    rng = np.random.default_rng(2)
    for iterations in range(5):
        grad = rng.normal(size=p.shape)
        optimizer.apply_gradients([(tf.constant(grad * 0.5), variable)])
        p, slots = reference.step(
            case.name,
            p,
            slots,
            grad,
            hyper(case),
            LEARNING_RATE,
            iterations,
            gradient_scale=0.5,
            clip_value=clip_value,
            weight_decay=decay,
        )
        np.testing.assert_allclose(variable.numpy(), p, rtol=case.optimizer.stock_rtol)


def test_sum_duplicates():
    rows, summed = reference.sum_duplicates(
        np.array([[1, 2], [10, 20], [100, 200]], np.float32), [7, 3, 7]
    )
    np.testing.assert_array_equal(rows, [3, 7])
    np.testing.assert_array_equal(summed, [[10, 20], [101, 202]])


@pytest.mark.parametrize("case", cases.RICHEST, ids=str)
def test_lazy_changes_only_its_rows_and_dense_is_the_dense_gradient(case):
    rng = np.random.default_rng(3)
    var, slots, _ = numerics.draw(rng, case, (6, 2), "float64")
    grad = rng.normal(size=(4, 2))
    indices = [4, 1, 4, 4]
    whole = np.zeros_like(var)
    whole[1], whole[4] = grad[1], grad[0] + grad[2] + grad[3]
    after, after_slots = reference.step(
        case.name, var, slots, whole, case.hyper, 0.1, 3
    )
    arguments = (case.name, var, slots, grad, case.hyper, 0.1, 3)
    dense, dense_slots = reference.sparse_step(
        *arguments, indices=indices, mode="dense"
    )
    lazy, lazy_slots = reference.sparse_step(*arguments, indices=indices)
    np.testing.assert_allclose(dense, after, rtol=1e-14)
    for key, value in slots.items():
        np.testing.assert_allclose(dense_slots[key], after_slots[key], rtol=1e-14)
        np.testing.assert_array_equal(
            lazy_slots[key][[0, 2, 3, 5]], value[[0, 2, 3, 5]]
        )
    if case.scope == "element":
        np.testing.assert_allclose(lazy[[1, 4]], after[[1, 4]], rtol=1e-14)
    np.testing.assert_array_equal(lazy[[0, 2, 3, 5]], var[[0, 2, 3, 5]])


def test_every_optimizer_of_the_table_has_a_reference():
    assert {row.name for row in cases.OPTIMIZERS} == set(reference.RULES)


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_nan_reaches_variable_and_slots(case):
    """In the second step: Adan's first difference of gradients is 0 by definition."""
    var, slots, grad = numerics.draw(np.random.default_rng(4), case, (3,), "float64")
    grad[1] = np.nan
    var, slots = reference.step(case.name, var, slots, grad, case.hyper, 0.1, 1)
    assert np.isnan(var[1])
    follow = {slot.name for slot in case.slots if slot.follows_nan}
    for value in (value for key, value in slots.items() if key in follow):
        assert np.isnan(value[1]) and not np.isnan(value[[0, 2]]).any()
    if case.scope != "variable":
        assert not np.isnan(var[[0, 2]]).any()


def test_row_wise_adagrad_is_adagrad_where_a_row_agrees():
    """Rows of one number, and rows of numbers of one size with any signs."""
    rng = np.random.default_rng(5)
    for shape, size in (((6,), rng.normal(size=6)), ((6, 4), rng.normal(size=(6, 1)))):
        var, accumulator = rng.normal(size=shape), rng.uniform(1, 2, size=6)
        grad = size * rng.choice([-1.0, 1.0], size=shape)
        one = accumulator.reshape(6, *[1] * (len(shape) - 1))
        step = ({"epsilon": 1e-3}, 0.1, 0)
        slots = {"accumulator": np.broadcast_to(one, shape)}
        wanted, wanted_slots = reference.step("Adagrad", var, slots, grad, *step)
        got, got_slots = reference.step(
            "RowWiseAdagrad", var, {"accumulator": accumulator}, grad, *step
        )
        np.testing.assert_allclose(got, wanted, rtol=1e-14)
        total = np.broadcast_to(got_slots["accumulator"].reshape(one.shape), shape)
        np.testing.assert_allclose(total, wanted_slots["accumulator"], rtol=1e-14)
