"""Gradients as people pass them: parts of NumPy, lists, variables that stand twice."""

import re

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import a_few, both_flavours, keras_3_only, modes

pytestmark = both_flavours

ROWS = 4
HOW = ["eager", "function", "jit"]
how = pytest.mark.parametrize("how", HOW)

INDICES = {
    "tuple": (2, 0, 2),
    "list": [2, 0, 2],
    "numpy int32": np.array([2, 0, 2], np.int32),
    "numpy uint8": np.array([2, 0, 2], np.uint8),
    "numpy int64": np.array([2, 0, 2]),
    "int16": tf.constant([2, 0, 2], tf.int16),
    "tensors": [tf.constant(2), tf.constant(0), tf.constant(2)],
}


ACCUMULATING = {"gradient_accumulation_steps": 2}


def skip_what_tf_keras_lacks(options):
    if flavours.LEGACY and ACCUMULATING.keys() <= options.keys():
        pytest.skip("tf_keras has no accumulation")


def slices(ids, values=None, shape=(ROWS, 2)):
    values = np.arange(6, dtype="float32").reshape(3, 2) if values is None else values
    return tf.IndexedSlices(values, ids, shape)


def called(function, how):
    if how == "eager":
        return function
    return tf.function(function, jit_compile=how == "jit")


@pytest.mark.parametrize("options", [{}, ACCUMULATING], ids=str)
@pytest.mark.parametrize("ids", INDICES.values(), ids=INDICES)
@a_few
def test_indices_need_not_be_a_tensor(case, ids, options):
    skip_what_tf_keras_lacks(options)
    results = []
    for each in (ids, tf.constant([2, 0, 2])):
        optimizer = models.ours(case, 0.1, **options)
        table = tf.Variable(tf.ones([ROWS, 2]))
        for _ in range(4):
            optimizer.apply_gradients([(slices(each), table)])
        results.append(models.everything([table], optimizer))
    for left, right in zip(*results, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(results[0][0], np.ones([ROWS, 2]))


def test_no_indices_at_all():
    """An empty list, which TensorFlow takes for floats."""
    table = tf.Variable(tf.ones([ROWS, 2]))
    tf_optim.SGD(0.1).apply_gradients([(slices([], np.zeros([0, 2])), table)])
    np.testing.assert_array_equal(table, np.ones([ROWS, 2]))


@pytest.mark.parametrize("ids", [[0.5, 0.0, 1.0], np.ones(3), [True, False, True]])
def test_indices_that_are_no_integers_are_an_error(ids):
    optimizer, table = tf_optim.SGD(0.1), tf.Variable(tf.ones([ROWS, 2]))
    with pytest.raises(
        ValueError, match=r"indices .*must be integers\. Received: dtype"
    ):
        optimizer.apply_gradients([(slices(ids), table)])
    assert int(optimizer.iterations) == 0
    np.testing.assert_array_equal(table, np.ones([ROWS, 2]))


@pytest.mark.parametrize("options", [{}, ACCUMULATING, {"clipnorm": 0.1}], ids=str)
@pytest.mark.parametrize(
    "make", [np.array, list, tuple, tf.Variable, tf.constant], ids=lambda f: f.__name__
)
def test_dense_gradients_need_not_be_tensors(make, options):
    skip_what_tf_keras_lacks(options)
    variable = tf.Variable([1.0, 2.0], dtype=tf.float64)
    optimizer = tf_optim.SGD(1.0, **options)
    for _ in range(2):
        optimizer.apply_gradients([(make([0.1, 0.2]), variable)])
    if "clipnorm" in options:
        scale = 2 * 0.1 / np.hypot(0.1, 0.2)
    else:
        scale = 1 if options else 2
    expected = np.array([1.0, 2.0]) - scale * np.array([0.1, 0.2])
    # A list's numbers are float64's, as the variable's are.
    exact = make in (list, tuple, np.array)
    np.testing.assert_allclose(variable, expected, rtol=1e-14 if exact else 1e-6)


# --- a variable that stands twice

TWICE = [
    {},
    {"momentum": 0.9},
    {"weight_decay": 0.2},
    {"clipnorm": 0.3},
    {"global_clipnorm": 0.3, "weight_decay": 0.2},
    {"use_ema": True, "ema_momentum": 0.5},
    {**ACCUMULATING, "weight_decay": 0.1},
]


def twice(make, options, how, sparse=False, times=2):
    """Two steps with lists in which a variable stands several times."""
    variable, other = tf.Variable([[1.0, 2.0], [3.0, 4.0]]), tf.Variable([1.0])
    optimizer = make(0.1, **options)
    optimizer.build([variable, other])

    def step(x):
        pairs = [(tf.constant([1.0]), other)]
        for i in range(times):
            gradient = x * (i + 1.0)
            if sparse:
                gradient = tf.IndexedSlices(gradient, tf.constant([1, 0]), (2, 2))
            pairs.append((gradient, variable))
        optimizer.apply_gradients(pairs)

    step = called(step, how)
    for i in range(2):
        step(tf.constant([[0.5, -1.0], [0.25, i]], tf.float32))
    return models.everything([variable, other], optimizer)


@how
@pytest.mark.parametrize("options", TWICE, ids=str)
def test_a_variable_that_stands_twice_takes_both_steps(options, how):
    """As stock takes them: a list made of two models' variables with a tied table."""
    skip_what_tf_keras_lacks(options)
    mine = twice(tf_optim.SGD, options, how)
    stock = twice(tf.keras.optimizers.SGD, options, "eager")
    for left, right in zip(mine, stock, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5)


@how
@modes
def test_a_table_that_stands_three_times(how, mode):
    options = {"sparse_update": mode, "momentum": 0.5}
    rows = twice(tf_optim.SGD, options, how, sparse=True, times=3)
    options = {"momentum": 0.5}
    variable, momentum = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros([2, 2])
    for i in range(2):
        for k in range(3):
            gradient = np.array([[0.25, i], [0.5, -1.0]]) * (k + 1)
            momentum = 0.5 * momentum - 0.1 * gradient
            variable += momentum
    np.testing.assert_allclose(rows[0], variable, rtol=1e-6)


@keras_3_only
def test_grads_and_variables_must_be_as_many():
    optimizer, variables = tf_optim.SGD(0.1), models.variables()
    optimizer.build(variables)
    with pytest.raises(ValueError, match=r"each of 4 variables\. Received: 1"):
        optimizer.apply([tf.constant(1.0)])


def test_an_unknown_variable_is_an_error():
    optimizer, variables = tf_optim.Adam(0.1), models.variables()
    optimizer.build(variables[:1])
    kind = KeyError if flavours.LEGACY else ValueError
    with pytest.raises(kind, match="Unknown variable: 'v3"):
        optimizer.apply_gradients([(tf.constant(1.0), variables[3])])
    assert int(optimizer.iterations) == 0


WRONG = [
    (tf.constant(["a", "b"]), "real numbers. Received: dtype string"),
    (tf.constant([1j, 2j]), "real numbers. Received: dtype complex128"),
    (tf.ragged.constant([[1.0], [1.0, 2.0]]), "a tensor, an array or tf.IndexedSlices"),
    (tf.sparse.from_dense([1.0, 0.0]), "a tensor, an array or tf.IndexedSlices"),
]


@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}, ACCUMULATING], ids=str)
@pytest.mark.parametrize(("gradient", "said"), WRONG, ids=lambda x: str(x)[:20])
def test_what_no_gradient_can_be(gradient, said, options):
    """Found before the first of several optimizers takes its step, too."""
    skip_what_tf_keras_lacks(options)
    first, second = (tf.Variable([1.0, 2.0], name=name) for name in "ab")
    optimizer = tf_optim.MultiOptimizer(
        [(tf_optim.SGD(0.5, **options), "a"), (tf_optim.SGD(0.5, **options), None)]
    )
    optimizer.build([first, second])
    with pytest.raises(ValueError, match=f"The gradient of 'b.*{re.escape(said)}"):
        optimizer.apply_gradients([(tf.ones([2]), first), (gradient, second)])
    np.testing.assert_array_equal(first, [1.0, 2.0])
    assert {int(each.iterations) for each in optimizer.optimizers} == {0}


@pytest.mark.parametrize(
    "options", [{}, {"clipnorm": 1.0}, {"clipvalue": 1.0}], ids=str
)
@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_gradients_of_whole_numbers(dtype, options):
    values = []
    for kind in (dtype, "float32"):
        variable = tf.Variable([1.0, 2.0])
        optimizer = tf_optim.SGD(0.5, **options)
        optimizer.apply_gradients([(tf.cast([1, 0], kind), variable)])
        values.append(variable.numpy())
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("shape", [(50, 2), (ROWS, 9), (50,)], ids=str)
def test_slices_of_another_table(shape):
    table = tf.Variable(tf.ones([ROWS, 2]), name="table")
    with pytest.raises(ValueError, match=r"'table.* must have dense_shape \[4, 2\]"):
        tf_optim.SGD().apply_gradients([(slices([2, 0, 2], shape=shape), table)])


@pytest.mark.parametrize("thing", [tf.ones([2]), np.ones(2), "x", None], ids=str)
def test_gradients_of_what_is_no_variable(thing):
    optimizer = tf_optim.SGD()
    optimizer.build([tf.Variable([1.0, 2.0])])
    with pytest.raises(ValueError, match="must be of variables. Received: a gradient"):
        optimizer.apply_gradients([(tf.ones([2]), thing)])


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, -1), None], ids=str)
def test_shapes_that_say_less(shape):
    table = tf.Variable(tf.ones([ROWS, 2]))
    tf_optim.SGD(0.5).apply_gradients([(slices([2, 0, 2], shape=shape), table)])
    expected = np.ones((ROWS, 2))
    expected[[0, 2]] -= 0.5 * np.array([[2.0, 3.0], [4.0, 6.0]])
    np.testing.assert_array_equal(table, expected)
