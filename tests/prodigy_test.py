"""Prodigy against the authors' program, in float64."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways

pytestmark = both_flavours

SHAPES = ((7, 5), (5,), ())
OPTIONS = [
    {},
    {"weight_decay": 0.1, "use_bias_correction": True, "epsilon": 1e-3},
    {"growth_rate": 1.5, "d_coef": 2.0, "beta_3": 0.9, "beta_2": 0.98},
    {"safeguard_warmup": True, "clipvalue": 0.5, "beta_1": 0.5, "d0": 1e-3},
]


def expected(values, steps, rates, rows_of=None, **options):
    """Mishchenko and Defazio, 2023, as their program has it; values, and each d.

    `steps` are lists of dense gradients; `rows_of` says which rows of a step's first
    gradient are named. Others of that variable stay as they are.
    """
    h = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "d0": 1e-6, "d_coef": 1.0}
    h |= options
    beta_3 = h.get("beta_3", np.sqrt(h["beta_2"]))
    values = [np.array(v, np.float64) for v in values]
    start = [v.copy() for v in values]
    m, v, s = ([np.zeros_like(each) for each in values] for _ in range(3))
    d = largest = h["d0"]
    numerator, found = 0.0, []
    for t, (grads, rate) in enumerate(zip(steps, rates, strict=True), 1):
        dlr = d * rate
        if h.get("use_bias_correction"):
            dlr *= np.sqrt(1 - h["beta_2"] ** t) / (1 - h["beta_1"] ** t)
        numerator *= beta_3
        named = []
        for i, grad in enumerate(grads):
            at = ... if i or rows_of is None else rows_of[t - 1]
            bound = h.get("clipvalue", np.inf)
            g = np.clip(np.float64(grad)[at], -bound, bound)
            named.append((i, at))
            numerator += d / h["d0"] * dlr * np.sum(g * (start[i] - values[i])[at])
            m[i][at] = h["beta_1"] * m[i][at] + (1 - h["beta_1"]) * d * g
            v[i][at] = h["beta_2"] * v[i][at] + (1 - h["beta_2"]) * (d * g) ** 2
            weight = d / h["d0"] * (d if h.get("safeguard_warmup") else dlr)
            s[i][at] = beta_3 * s[i][at] + weight * g
        ratio = h["d_coef"] * numerator / sum(np.sum(np.abs(each)) for each in s)
        d = max(d, ratio) if d == h["d0"] else d
        largest = max(largest, ratio)
        d = min(largest, d * h.get("growth_rate", np.inf))
        for i, at in named:
            p = values[i][at] * (1 - dlr * h.get("weight_decay", 0.0))
            values[i][at] = p - dlr * m[i][at] / (np.sqrt(v[i][at]) + d * h["epsilon"])
        found.append(d)
    return values, found


def downhill(steps):
    """Gradients that mostly point the same way, so that the estimate grows."""
    rng = np.random.default_rng(1)
    return [
        [rng.normal(0.5, 0.3, size=shape) for shape in SHAPES] for _ in range(steps)
    ]


def assert_are(var_list, values, rtol=1e-8):
    # Float64: of float32 variables the first steps, of 1e-6, are known to few digits.
    for mine, wanted in zip(var_list, values, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=rtol, atol=rtol)


@both_ways
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_formula(options, graph):
    var_list = models.variables(SHAPES, "float64")
    before = [v.numpy() for v in var_list]
    optimizer = tf_optim.Prodigy(1.0, **options)
    steps = downhill(12)
    values, found = expected(before, steps, [1.0] * 12, **options)
    grads = [list(map(tf.constant, each)) for each in steps]
    models.train(optimizer, var_list, grads, graph)
    assert found[-1] > 10 * found[0]
    np.testing.assert_allclose(float(optimizer.estimate), found[-1], rtol=1e-7)
    assert_are(var_list, values)


@both_ways
def test_a_schedule_and_what_is_left_out(graph):
    schedule = tf.keras.optimizers.schedules.CosineDecay(1.0, 30)
    rates = [float(schedule(t)) for t in range(20)]
    var_list = models.variables(SHAPES, "float64")
    optimizer = tf_optim.Prodigy(schedule, learning_rate_multipliers={"v0": 0})
    before = [v.numpy() for v in var_list]
    steps = downhill(20)
    models.train(optimizer, var_list, [list(map(tf.constant, s)) for s in steps], graph)
    values, found = expected(before[1:], [s[1:] for s in steps], rates)
    np.testing.assert_allclose(float(optimizer.estimate), found[-1], rtol=1e-5)
    assert_are(var_list, [before[0], *values], 1e-5)  # a rate is a float32


@both_ways
@pytest.mark.parametrize("mode", ["lazy", "dense"])
@pytest.mark.parametrize("jit", [False, True])
def test_sparse_gradients(mode, jit, graph):
    """Lazy: the rows named alone; the sum of |s| is the table's all the same."""
    rng = np.random.default_rng(2)
    var_list = models.variables(SHAPES[:2], "float64")
    before = [v.numpy() for v in var_list]
    given, steps, rows_of = [], [], []
    for _ in range(25):
        ids = rng.integers(0, 7, 4)
        values = rng.normal(0.5, 0.3, (4, 5))
        whole, bias = np.zeros((7, 5)), rng.normal(0.5, 0.3, 5)
        np.add.at(whole, ids, values)
        given.append([models.slices(ids, values, 7), tf.constant(bias)])
        steps.append([whole, bias])
        rows_of.append(np.unique(ids))
    optimizer = tf_optim.Prodigy(sparse_update=mode)
    optimizer.build(var_list)

    def step(grads):
        optimizer.apply_gradients(zip(grads, var_list, strict=True))

    if graph:
        step = tf.function(step, jit_compile=jit)
    elif jit:
        pytest.skip("eager steps are not compiled")
    for grads in given:
        step(grads)
    rows_of = rows_of if mode == "lazy" else None
    values, found = expected(before, steps, [1.0] * 25, rows_of)
    np.testing.assert_allclose(float(optimizer.estimate), found[-1], rtol=1e-7)
    assert_are(var_list, values)
    norms = [np.sum(np.abs(s)) for s in optimizer._gradient_sums]
    np.testing.assert_allclose(list(map(float, optimizer._sum_norms)), norms, rtol=1e-9)


def test_goes_on_from_a_checkpoint(tmp_path):
    def made(seed):
        (var,) = models.variables([(6, 4)], "bfloat16", seed)
        optimizer = tf_optim.Prodigy(d0=1e-3)
        optimizer.build([var])
        return optimizer, var, tf.train.Checkpoint(optimizer=optimizer, var=var)

    @tf.function
    def train(optimizer, var):
        for _ in tf.range(5):
            optimizer.apply_gradients([(tf.identity(var), var)])

    optimizer, var, saved = made(0)
    train(optimizer, var)
    path = saved.write(str(tmp_path / "state"))
    other, copy, restored = made(1)
    restored.read(path).assert_consumed()
    assert float(other.estimate) == float(optimizer.estimate) > 1e-3
    for each, of in ((optimizer, var), (other, copy)):
        train(each, of)
    np.testing.assert_array_equal(np.float32(var), np.float32(copy))
    assert float(other.estimate) == float(optimizer.estimate)
    config = optimizer.get_config()
    assert tf_optim.Prodigy.from_config(config).get_config() == config


def test_finds_a_rate_that_trains_a_model():
    features, labels = models.classifier_data(96)
    losses = []
    for optimizer in (tf_optim.Prodigy(), tf_optim.Adam(1e-6)):
        model = models.classifier()
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
        fitted = model.fit(features, labels, 32, epochs=20, verbose=0)
        losses.append(fitted.history["loss"][-1])
    assert losses[0] < 0.97 * losses[1]  # Adam stands still at the first d
    assert float(model.optimizer.learning_rate) < 1e-5


def test_errors_come_before_anything_changes():
    var = tf.Variable(np.ones((4, 3), np.float32), name="table")
    optimizer = tf_optim.Prodigy()
    wrong = models.slices([7], np.ones((1, 3), np.float32), 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 4\)"):
        optimizer.apply_gradients([(wrong, var)])
    twice = [(tf.ones([4, 3]), var)] * 2
    with pytest.raises(ValueError, match="each variable once.*2 gradients for 1"):
        optimizer.apply_gradients(twice)
    with pytest.raises(ValueError, match="all gradients of a step at once"):
        optimizer.update_step(tf.ones([4, 3]), var, 1.0)
    np.testing.assert_array_equal(var, np.ones((4, 3)))
    assert float(optimizer.estimate) == 1e-6 and int(optimizer.iterations) == 0
    for name, value, said in (
        ("beta_1", 1.0, r"\[0, 1\)"),
        ("beta_3", 1.5, r"\[0, 1\]"),
        ("d0", 0.0, "> 0"),
        ("d_coef", -1.0, ">= 0"),
        ("growth_rate", 0.5, ">= 1"),
        ("sparse_update", "exact", "'lazy' or 'dense'"),
        ("slot_dtype", "int8", "whole slots"),
    ):
        with pytest.raises(ValueError, match=said):
            tf_optim.Prodigy(**{name: value})


def test_random_rounding_draws_anew_in_each_step():
    variable = tf.Variable(tf.ones([4096], tf.bfloat16))
    optimizer = tf_optim.Prodigy(
        d0=1e-4, growth_rate=1.0, use_bias_correction=True, stochastic_rounding=True
    )
    for _ in range(10):
        optimizer.apply_gradients([(tf.ones_like(variable), variable)])
    moved = np.mean(np.float32(variable) < 1.0)
    assert 0.15 < moved < 0.35  # of 10 times 1e-4 of 2^-8


def test_the_sum_of_a_table_does_not_drift():
    (table,) = models.variables([(6, 2)])
    optimizer = tf_optim.Prodigy(d0=0.1, beta_3=0.5)
    optimizer.build([table])

    @tf.function(jit_compile=True)
    def step(ids, size):
        rows = models.slices(ids, tf.fill([4, 2], size), 6)
        optimizer.apply_gradients([(rows, table)])

    for i in range(60):  # XLA leaves ids out that no row has
        step(tf.constant([i % 6, -1, 9, 2]), 1e4 if i < 20 else 1e-4)
    (total,), (norm,) = optimizer._gradient_sums, optimizer._sum_norms
    np.testing.assert_allclose(float(norm), np.sum(np.abs(total)), rtol=1e-4)
    assert tf.as_dtype(norm.dtype) == tf.float64


@both_ways
def test_a_gradient_of_nan_makes_nan(graph):
    var_list = models.variables(SHAPES[:2])
    optimizer = tf_optim.Prodigy()
    wrong = [[tf.fill(v.shape, np.nan) for v in var_list]]
    models.train(optimizer, var_list, models.gradients(1, SHAPES[:2]) + wrong, graph)
    models.train(optimizer, var_list, models.gradients(1, SHAPES[:2]), graph)
    assert all(np.isnan(v.numpy()).all() for v in var_list)
    assert int(optimizer.iterations) == 3


def test_a_subclass_with_an_update_of_its_own():
    class Plain(tf_optim.Prodigy):
        def update_step(self, gradient, variable, *rate):
            variable.assign_sub(gradient)

    variable = tf.Variable([1.0, 2.0])
    Plain().apply_gradients([(tf.ones([2]), variable)])
    np.testing.assert_array_equal(variable, [0.0, 1.0])
