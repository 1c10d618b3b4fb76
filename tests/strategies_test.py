"""Strategies of tf.distribute around optimizers that were made outside of them.

Each is right or a clear error.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import children, models, replicated, strategies
from tests.marks import keras_3_only

pytestmark = pytest.mark.both_flavours


@pytest.fixture(scope="module")
def child():
    with children.Child({"TF_NUM_INTEROP_THREADS": "8"}) as child:
        child.call(replicated.strategy_name, "mirrored")  # makes the devices
        yield child


WAYS = [
    ("ours", "SGD", {}),
    ("ours", "SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("ours", "Adam", {"use_ema": True, "ema_overwrite_frequency": 2}),
    ("fused", "SGD", {}),
]


@pytest.mark.parametrize(("make", "name", "arguments"), WAYS, ids=str)
def test_fit_with_only_the_model_in_the_scope(child, make, name, arguments):
    """Replicas hold the same bits, and what one device does with the whole batch."""
    values, iterations = child.call(strategies.fitted, make, name, arguments)
    expected = child.call(strategies.alone, name, arguments)
    for (first, second), one in zip(values, expected, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, one, rtol=1e-4, atol=1e-5)
    assert iterations == 8


@keras_3_only
def test_fit_with_a_loss_scale(child):
    arguments = {"loss_scale_factor": 4.0}
    values, _ = child.call(strategies.fitted, "ours", "SGD", arguments)
    expected = child.call(strategies.alone, "SGD", {})
    for (first, second), one in zip(values, expected, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, one, rtol=1e-5)


def test_a_variable_from_outside_is_an_error(child):
    said, value = child.call(strategies.variable_from_outside)
    # (In tf_keras TensorFlow says so, when slots are to be made beside it.)
    assert said.startswith("ValueError") and "scope" in said and "Variable" in said
    np.testing.assert_array_equal(value, [1, 1])


def test_a_step_in_the_scope_itself_is_an_error(child):
    assert "context" in child.call(strategies.in_the_scope)


@pytest.mark.parametrize("difference", ["missing", "sparse", "order"])
def test_replicas_with_unlike_gradients_are_an_error(child, difference):
    said, values, iterations = child.call(strategies.unlike_gradients, difference)
    assert said.startswith("ValueError: All replicas must have gradients of the same")
    assert ("'b:0'" in said or "'b'" in said) or difference == "order"
    np.testing.assert_array_equal(values, np.ones([2, 2, 1]))
    assert iterations == 0


@pytest.mark.parametrize(
    "arguments", [{}, {"clipnorm": 0.5}, {"sparse_update": "exact"}], ids=str
)
def test_batches_of_other_numbers_of_ids_in_a_loop(child, arguments):
    """In a loop TensorFlow's collectives must have the shape that they began with."""
    called, looped = (
        child.call(strategies.looped, "Adam", arguments, loops)
        for loops in (False, True)
    )
    np.testing.assert_array_equal(called, looped)
    np.testing.assert_array_equal(looped[0][0], looped[0][1])


def test_a_saved_model_serves_in_strategies_and_graphs(child, tmp_path):
    served, said = child.call(strategies.loaded_elsewhere, str(tmp_path / "model"))
    np.testing.assert_array_equal(served, [[1.0, 3.0]] * 4)
    assert "A step of a SavedModel must be taken where" in said


@pytest.mark.parametrize("name", ["Adam", "Nadam"])
def test_slots_are_where_their_variables_are(child, name):
    values = child.call(strategies.built_outside, name)
    assert [len(parts) for parts in values[:1] + values[-1:]] == [2, 2]
    for parts in values:
        np.testing.assert_array_equal(parts[0], parts[-1])


@pytest.mark.parametrize("name", ["Adam", "ScheduleFreeAdamW", "ASGD", "Prodigy"])
def test_an_optimizer_that_its_first_step_builds(child, name):
    """Slots that start at the variable do so on both devices."""
    by_step, before = (child.call(strategies.stepped, name, b) for b in (False, True))
    for parts, expected in zip(by_step, before, strict=True):
        np.testing.assert_array_equal(parts[0], parts[-1])
        np.testing.assert_array_equal(parts, expected)


MODES = "exact", "dense"
KINDS = ["Adam", "Lookahead", "packed", "LossScaleOptimizer", "MultiOptimizer"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_was_restored_first_reaches_all_replicas(
    child, kind, tmp_path
):
    """The first step builds the optimizer, in the context of one of them."""
    straight, *others = child.call(strategies.restored, kind, str(tmp_path))
    for parts in (straight, *others):
        np.testing.assert_array_equal(parts[0], parts[1])
        np.testing.assert_array_equal(parts[0], straight[0])


@pytest.mark.parametrize("in_scope", [True, False])
@pytest.mark.parametrize("replica", [0, 1])
def test_an_overflow_of_any_replica_skips_the_step_of_all(child, replica, in_scope):
    """And steps are counted once, wherever the optimizer was built."""
    before, after, scales = child.call(strategies.overflowed, replica, in_scope)
    np.testing.assert_array_equal(after, before)
    assert scales == [2.0, 2.0, 4.0]


def test_exact_tables_in_branches(child):
    exact, dense = (child.call(strategies.exact_in_a_branch, m) for m in MODES)
    for parts, (expected, _) in zip(exact, dense, strict=True):
        np.testing.assert_array_equal(parts[0], parts[1])
        np.testing.assert_allclose(parts[0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["Adam", "SM3", "Prodigy"])
def test_rows_that_no_replica_names_stay_where_gradients_are_clipped(child, name):
    """By a global norm, for which Keras makes a dense tensor of rows."""
    for arguments in ({"global_clipnorm": 100.0}, {"clipnorm": 100.0}):
        clipped, plain = (
            child.call(strategies.rows_stepped, name, a) for a in (arguments, {})
        )
        np.testing.assert_allclose(clipped, plain, rtol=1e-6)


CENTRAL = [
    {},
    {"weight_decay": 0.1, "clipvalue": 0.5},
    {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("arguments", CENTRAL, ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_central_storage_steps_once(child, name, arguments, sparse):
    """Both replicas hand in the same gradient: the step is that of its double."""
    options = {**arguments, "sparse_update": "dense"}
    value, iterations = child.call(strategies.central, "ours", name, sparse, options)
    assert iterations == 4
    expected = alone(name, arguments, sparse)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@keras_3_only
def test_central_storage_accumulates(child):
    arguments = {"gradient_accumulation_steps": 2}
    value, iterations = child.call(strategies.central, "ours", "SGD", True, arguments)
    assert iterations == 2
    np.testing.assert_allclose(value, alone("SGD", arguments, True), rtol=1e-5)


def alone(name, arguments, sparse):
    """Ours on one device with the sum of both replicas' gradients."""
    table = tf.Variable(tf.ones([3, 2]))
    arguments = dict(arguments)
    bound = arguments.get("clipvalue")
    if bound and hasattr(tf.keras, "ops"):  # clips each replica's, and adds up
        arguments["clipvalue"] = 2 * bound
    optimizer = getattr(tf_optim, name)(0.05, sparse_update="dense", **arguments)
    optimizer.build([table])
    for i in range(4):
        gradient = 2 * (tf.reshape(tf.range(6.0), [3, 2]) / 8 + 0.125 * i)
        if sparse:
            gradient = models.slices([1, 1], gradient[:2], 3)
        optimizer.apply_gradients([(gradient, table)])
    return table.numpy()


def test_a_row_that_lies_behind_on_one_device_fails_the_step_on_both(child):
    said, before, after, steps = child.call(strategies.stale_on_one_of_two_devices)
    assert "Row 1 of table 0 must be up to date" in said
    np.testing.assert_array_equal(before, after)
    assert steps == 2
