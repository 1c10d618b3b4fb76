"""ConditionalGradient against its formula, in float64."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways

pytestmark = both_flavours

SHAPES = ((7, 5), (5,), (3, 2, 4), ())


def direction(g, norm, epsilon=1e-7):
    """The point of a ball of radius 1 in which a step ends, turned round."""
    if norm == "fro" or g.ndim < 2:
        return g / (np.sqrt(np.sum(g**2)) + epsilon)
    left, values, right = np.linalg.svd(g)
    u, v = left[..., :, :1], right[..., :1, :]
    return u @ v * (values[..., :1, None] / (values[..., :1, None] + epsilon))


@both_ways
@pytest.mark.parametrize("norm", ["fro", "nuclear"])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.3}, {"clipvalue": 0.5, "epsilon": 0.1}],
    ids=str,
)
def test_the_formula(norm, options, graph):
    var_list = models.variables(SHAPES)
    values = [np.float64(v.numpy()) for v in var_list]
    optimizer = tf_optim.ConditionalGradient(
        0.75, 2.0, ord=norm, learning_rate_multipliers={"v1": 0.5}, **options
    )
    steps = models.gradients(6, SHAPES)
    models.train(optimizer, var_list, steps, graph)
    bound = options.get("clipvalue", np.inf)
    for grads in steps:
        for i, grad in enumerate(grads):
            rate = 0.375 if i == 1 else 0.75
            g = np.clip(np.float64(grad.numpy()), -bound, bound)
            s = direction(g, norm, options.get("epsilon", 1e-7))
            p = values[i] * (1 - rate * options.get("weight_decay", 0.0))
            values[i] = rate * p - (1 - rate) * 2.0 * s
    for mine, wanted in zip(var_list, values, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-5)


@both_ways
@pytest.mark.parametrize("mode", ["lazy", "dense"])
def test_sparse_gradients(mode, graph):
    """Repeated ids are summed before the norm; lazy steps leave other rows alone."""
    ids, rows = [3, 1, 3], np.float32(np.random.default_rng(0).normal(size=(3, 5)))
    (table,) = models.variables(SHAPES[:1])
    before = np.float64(table.numpy())
    optimizer = tf_optim.ConditionalGradient(0.5, 2.0, sparse_update=mode)
    models.train(optimizer, [table], [[models.slices(ids, rows, 7)]], graph)
    g = np.zeros((7, 5))
    np.add.at(g, ids, rows)
    expected = 0.5 * before - 0.5 * 2.0 * direction(g, "fro")
    if mode == "lazy":
        expected[[0, 2, 4, 5, 6]] = before[[0, 2, 4, 5, 6]]
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["fro", "nuclear"])
def test_compiled_and_of_zeros(norm):
    """A gradient of zeros has no direction; 16 bits are computed in float32."""
    var_list = [
        tf.Variable(tf.ones([4, 3], dtype)) for dtype in ("float32", "bfloat16")
    ]
    optimizer = tf_optim.ConditionalGradient(0.5, 3.0, epsilon=0.0, ord=norm)
    optimizer.build(var_list)

    @tf.function(jit_compile=True)
    def step(factor):
        grads = [tf.ones([4, 3], v.dtype) * tf.cast(factor, v.dtype) for v in var_list]
        optimizer.apply_gradients(zip(grads, var_list, strict=True))

    step(0.0)
    for var in var_list:
        np.testing.assert_allclose(np.float32(var), 0.5, rtol=1e-2)
    step(8.0)
    for var in var_list:
        expected = 0.25 - 0.5 * 3.0 / np.sqrt(12)
        np.testing.assert_allclose(np.float32(var), expected, rtol=1e-2)
    config = optimizer.get_config()
    made = tf_optim.ConditionalGradient.from_config(config)
    assert made.get_config() == config and made.ord == norm


def test_errors_come_before_anything_changes():
    var = tf.Variable(np.ones((4, 3), np.float32), name="table")
    slices = models.slices([1], np.ones((1, 3), np.float32), 4)
    optimizer = tf_optim.ConditionalGradient(ord="nuclear")
    with pytest.raises(ValueError, match="`ord` must be 'fro'.*'table"):
        optimizer.apply_gradients([(slices, var)])
    optimizer = tf_optim.ConditionalGradient()
    wrong = models.slices([7], np.ones((1, 3), np.float32), 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 4\)"):
        optimizer.apply_gradients([(wrong, var)])
    for optimizer in (
        tf_optim.ConditionalGradient(2.0),
        tf_optim.ConditionalGradient(0.9, learning_rate_multipliers={".": 2.0}),
    ):
        with pytest.raises(ValueError, match="`learning_rate`.* must be in.*'table"):
            optimizer.apply_gradients([(tf.ones([4, 3]), var)])
    np.testing.assert_array_equal(var, np.ones((4, 3)))
    assert int(optimizer.iterations) == 0
    for name, value, said in (
        ("lambda_", -1.0, ">= 0"),
        ("epsilon", float("nan"), ">= 0"),
        ("ord", "l1", "'fro' or 'nuclear'"),
        ("sparse_update", "exact", "'lazy' or 'dense'"),
    ):
        with pytest.raises(ValueError, match=said):
            tf_optim.ConditionalGradient(**{name: value})
