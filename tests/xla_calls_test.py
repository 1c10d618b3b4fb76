"""How a step under jit_compile=True is cut into calls, and traced functions in it."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, models
from tests.marks import a_few, modes, richest, xla_calls
from tests.raw_ops import Variables
from tests.xla_test import (
    arrays_of,
    assert_close,
    both_steps,
    draw,
    draw_tables,
    step_of,  # noqa: F401  (a fixture)
    values,
)

PER_CALL = 16


def calls_of(function):
    """The number of variables in each call of a driver."""
    computation = function.experimental_get_compiler_ir()(stage="hlo")
    lines = [line for line in computation.splitlines() if "tf_optim_step_" in line]
    return [len(re.findall("{[0-9]+}: ", line)) for line in lines]


@xla_calls
@pytest.mark.parametrize("count", [PER_CALL, 2 * PER_CALL + 1])
def test_no_call_takes_more_than_a_few_variables(count):
    """Compile time grows with the square of what one call takes, and more."""
    case = next(case for case in cases.CASES if case.name == "SGD" and not case.slots)
    variables = Variables(case, [(np.zeros(3, "float32"), {})] * count)

    @tf.function(jit_compile=True)
    def step():
        variables.apply([tf.ones(3)] * count)

    calls = calls_of(step)
    assert sum(calls) == count
    assert max(calls) == PER_CALL


@richest
def test_each_variable_of_a_long_list_has_its_own_numbers(case):
    count = 2 * PER_CALL + 3
    shapes = [(i % 5 + 1,) for i in range(count)]
    drawn = draw(case, "float32", shapes)
    grads = [tf.constant(grad) for _, _, grad in drawn]
    tail = {
        "gradient_scale": np.linspace(0.3, 2.0, count),
        "clip_value": 0.4,
        "weight_decay": np.linspace(0.0, 0.2, count),
    }
    jit, plain = (Variables(case, arrays_of(drawn)) for _ in range(2))
    tf.function(lambda: jit.apply(grads, **tail), jit_compile=True)()
    plain.apply(grads, **tail)
    assert_close(case, values(jit), values(plain))


@modes
def test_each_table_of_a_long_list_has_its_own_ids(mode):
    case = cases.RICHEST[0]
    count = PER_CALL + 2
    tables = [((7, 2), [i % 7, 3, i % 7]) for i in range(count)]
    arrays, grads, ids = draw_tables(case, "float32", tables)
    jit, plain = (Variables(case, arrays) for _ in range(2))
    grads = [tf.constant(grad) for grad in grads]
    ids = [tf.constant(i) for i in ids]
    tf.function(lambda: jit.sparse_apply(grads, ids, mode=mode), jit_compile=True)()
    plain.sparse_apply(grads, ids, mode=mode)
    assert_close(case, values(jit), values(plain))


@both_steps
@modes
@a_few
def test_number_of_ids_that_depends_on_data(step_of, case, mode):  # noqa: F811
    arrays, grads, ids = draw_tables(case, "float32", [((9, 2), [4, 1, 4, 8, 1, 0])])
    jit, plain = (Variables(case, arrays) for _ in range(2))
    grad, ids = tf.constant(grads[0]), tf.constant(ids[0], tf.int64)

    @tf.function(jit_compile=True)
    def step(threshold):
        some = ids > threshold
        jit.sparse_apply(
            [tf.boolean_mask(grad, some)], [tf.boolean_mask(ids, some)], mode=mode
        )

    for threshold in (0, 3, 100):  # five, three and no ids, of one compilation
        some = ids > threshold
        step(tf.constant(threshold, tf.int64))
        plain.sparse_apply(
            [tf.boolean_mask(grad, some)], [tf.boolean_mask(ids, some)], mode=mode
        )
        assert_close(case, values(jit), values(plain))
    assert step.experimental_get_tracing_count() == 1


def two_groups(case):
    """An optimizer with variables for two ops, one of them sparse."""
    var_list = [tf.Variable(tf.ones([6, 3])), tf.Variable(tf.ones([4], tf.float64))]
    optimizer = models.ours(case)
    optimizer.build(var_list)

    @tf.function
    def step(ids):
        rows = models.slices(ids, tf.fill([3, 3], 0.5), 6)
        grads = [rows, tf.fill([4], tf.constant(0.5, tf.float64))]
        optimizer.apply_gradients(zip(grads, var_list, strict=True))

    return var_list, step


@a_few
def test_function_that_was_traced_outside_of_jit(case):
    (jit, function), (plain, step) = two_groups(case), two_groups(case)
    ids = tf.constant([4, 1, 4])
    function(ids)
    tf.function(lambda: function(ids), jit_compile=True)()
    function(ids)
    for _ in range(3):
        step(ids)
    for left, right in zip(jit, plain, strict=True):
        assert not np.array_equal(left, tf.ones_like(left))
        np.testing.assert_allclose(left, right, rtol=1e-6)


@a_few
def test_concrete_function_that_was_traced_outside_of_jit(case):
    """XLA cannot compile it: it has its variables behind one handle."""
    variables, function = two_groups(case)
    ids = tf.constant([4, 1, 4])
    concrete = function.get_concrete_function(ids)
    with pytest.raises(RuntimeError, match="must be traced inside of jit_compile"):
        tf.function(lambda: concrete(ids), jit_compile=True)()
    for variable in variables:
        np.testing.assert_array_equal(variable, tf.ones_like(variable))
