"""Optimizers of stock around ours: LossScaleOptimizer and MultiOptimizer."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import a_few, both_flavours, both_ways, keras_3_only, modes, richest

ROWS, SCALE = 8, 16.0
LossScaleOptimizer = tf.keras.mixed_precision.LossScaleOptimizer
wrappers = pytest.mark.parametrize(
    "wrapper", [LossScaleOptimizer, tf_optim.LossScaleOptimizer], ids=["stock", "ours"]
)


class Training:
    """A table and a bias under a LossScaleOptimizer, or under ours alone."""

    def __init__(self, case, mode, graph=False, wrapper=None):
        self.variables = models.variables(((ROWS, 3), (3,)))
        self.inner = self.optimizer = models.ours(case, sparse_update=mode)
        self.wrapped = wrapper is not None
        if self.wrapped:
            self.optimizer = wrapper(
                self.inner, initial_scale=SCALE, dynamic_growth_steps=100
            )
        self.optimizer.build(self.variables)
        self.step = tf.function(self._step) if graph else self._step

    def _step(self, ids, values, bias):
        if self.wrapped:
            grads = (models.slices(ids, values * SCALE, ROWS), bias * SCALE)
            if flavours.LEGACY:
                grads = self.optimizer.get_unscaled_gradients(grads)
        else:
            grads = (models.slices(ids, values, ROWS), bias)
        self.optimizer.apply_gradients(zip(grads, self.variables, strict=True))

    def values(self):
        values = models.everything(self.variables, self.inner)
        # Stock's Nadam has one more scalar, which a wrapper does not count.
        return [v for v in values if v.ndim > 0 or v.dtype.kind == "i"]


def draw(count=3):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield (
            tf.constant(rng.integers(0, ROWS, size=5)),
            tf.constant(rng.normal(size=(5, 3)), tf.float32),
            tf.constant(rng.normal(size=3), tf.float32),
        )


def changed(before, training):
    pairs = enumerate(zip(before, training.values(), strict=True))
    return [i for i, (old, new) in pairs if not np.array_equal(old, new)]


@both_flavours
@wrappers
@both_ways
@modes
@richest
def test_finite_steps_are_those_of_the_inner_optimizer(case, mode, graph, wrapper):
    """A scale that is a power of two leaves no trace."""
    wrapped, plain = (Training(case, mode, graph, each) for each in (wrapper, None))
    for step in draw():
        wrapped.step(*step)
        plain.step(*step)
    assert changed(wrapped.values(), plain) == []


@both_flavours
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("where", ["table", "bias"])
@both_ways
@wrappers
@a_few
def test_a_step_that_is_not_finite_changes_nothing(case, wrapper, graph, where, bad):
    training = Training(case, "lazy", graph, wrapper)
    ids, values, bias = next(draw())
    training.step(ids, values, bias)
    before = training.values()
    if where == "table":
        training.step(ids, values * bad, bias)
    else:
        training.step(ids, values, bias * bad)
    # tf_keras counts it: `iterations` is the first of the optimizer's variables.
    assert changed(before, training) == ([2] if flavours.LEGACY else [])
    scale = "loss_scale" if flavours.LEGACY else "dynamic_scale"
    assert models.number(getattr(training.optimizer, scale)) == SCALE / 2


@both_flavours
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("wrapper", [None, tf_optim.LossScaleOptimizer])
@a_few
def test_fit_in_mixed_precision(case, policy, wrapper):
    """float16 wraps the optimizer; the embedding's gradient stays sparse."""
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        optimizer = models.ours(case, 0.01)
        if wrapper is not None:
            optimizer = wrapper(optimizer, initial_scale=256.0)
        model = models.compiled(models.recommender(), optimizer, jit_compile=False)
        before = model.get_weights()[0]
        ids, targets = models.recommender_data(unique=False)
        history = model.fit(ids, targets, 8, 10, verbose=0).history["loss"]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    is_wrapped = policy == "mixed_float16" or wrapper is not None
    assert isinstance(model.optimizer, LossScaleOptimizer) == is_wrapped
    if wrapper is not None:
        assert model.optimizer is optimizer
    assert history[-1] < history[0]
    named = np.unique(ids)
    others = np.setdiff1d(np.arange(len(before)), named)
    after = model.get_weights()[0]
    np.testing.assert_array_equal(after[others], before[others])
    assert (after[named] != before[named]).any(axis=1).all()


@both_flavours
@wrappers
@a_few
def test_a_wrapped_optimizer_is_saved_and_loaded(case, wrapper, tmp_path):
    path = str(tmp_path / "model.keras")
    optimizer = wrapper(models.ours(case, 0.02), initial_scale=SCALE)
    model = models.compiled(models.classifier(), optimizer, "classes")
    x, y = models.classifier_data()
    model.fit(x, y, 16, 1, shuffle=False, verbose=0)
    model.save(path)
    loaded = tf.keras.models.load_model(path)
    assert type(loaded.optimizer) is type(optimizer)
    assert type(loaded.optimizer.inner_optimizer) is type(models.ours(case))
    for each in (model, loaded):
        each.fit(x, y, 16, 1, shuffle=False, verbose=0)
    for left, right in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@keras_3_only
@pytest.mark.skipif(
    not hasattr(tf.keras.optimizers, "OptimizerMap"), reason="of Keras 3.12 and later"
)
@a_few
def test_ours_inside_a_multi_optimizer(case, tmp_path):
    """The table lazily by ours, the rest by another of ours with other options."""
    optimizers = tf.keras.optimizers
    path = str(tmp_path / "model.keras")

    def make():
        mapping = optimizers.OptimizerMap(models.ours(case, 0.02))
        mapping["table/.*"] = models.ours(case, 0.1, sparse_update="dense")
        return models.compiled(
            models.recommender(), optimizers.MultiOptimizer(mapping), jit_compile=False
        )

    ids, targets = models.recommender_data(unique=False)
    model = make()
    before = model.get_weights()
    loss = model.fit(ids, targets, 8, 4, shuffle=False, verbose=0).history["loss"]
    assert loss[-1] < loss[0]
    assert all(
        not np.array_equal(left, right)
        for left, right in zip(model.get_weights(), before, strict=True)
    )
    model.save(path)
    loaded = tf.keras.models.load_model(path)
    kinds = [type(each) for each in loaded.optimizer.optimizers]
    assert kinds == [type(models.ours(case))] * 2
    for each in (model, loaded):
        each.fit(ids, targets, 8, 2, shuffle=False, verbose=0)
    for left, right in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
