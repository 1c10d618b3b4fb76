"""Keras' features two at a time, with dense and with sparse gradients.

Dense gradients: stock is the oracle. Sparse ones with `sparse_update="dense"`: ours
with the dense gradient is.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import a_few, both_flavours, keras_3_only

pytestmark = both_flavours

ROWS = 9
SCALE = 8.0
STEPS = 6
STOCK_WRAPPER = tf.keras.mixed_precision.LossScaleOptimizer
WRAPPED_SCALE = 1.0 if flavours.LEGACY else SCALE


class Feature:
    """Constructor arguments, and what else a feature asks for."""

    def __init__(self, keras_3_only=False, scale=1.0, wrap=None, bound=None, **options):
        self.keras_3_only = keras_3_only
        self.scale = scale  # of the gradients that are fed
        self.wrap = wrap  # a LossScaleOptimizer around ours; stock's around stock
        self.bound = bound  # of the variables
        self.options = options


def schedule():
    return tf.keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)


FEATURES = {
    "clipnorm": Feature(clipnorm=0.5),
    "clipvalue": Feature(clipvalue=0.25),
    "global_clipnorm": Feature(global_clipnorm=0.5),
    "weight_decay": Feature(weight_decay=0.1),
    "ema": Feature(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "schedule": Feature(learning_rate=schedule()),
    "constraint": Feature(bound=0.4),
    "loss_scale_optimizer": Feature(wrap=STOCK_WRAPPER, scale=WRAPPED_SCALE),
    "our_loss_scale_optimizer": Feature(
        wrap=tf_optim.LossScaleOptimizer, scale=WRAPPED_SCALE
    ),
    "loss_scale_factor": Feature(True, SCALE, loss_scale_factor=SCALE),
    "accumulation": Feature(True, gradient_accumulation_steps=2),
}
CLIPS = {"clipnorm", "clipvalue", "global_clipnorm"}  # one at a time
# One at a time, too: the wrappers unset the factor.
SCALES = {"loss_scale_optimizer", "our_loss_scale_optimizer", "loss_scale_factor"}
PAIRS = [
    pair
    for pair in itertools.combinations(FEATURES, 2)
    if not any(set(pair) <= contradiction for contradiction in (CLIPS, SCALES))
]


def marked(names):
    only = any(FEATURES[name].keras_3_only for name in names)
    return pytest.param(names, marks=keras_3_only if only else (), id="+".join(names))


pairs = pytest.mark.parametrize("pair", [*map(marked, PAIRS)])


def trained(case, pair, make, sparse=False, **options):
    """Variables and averages after some steps of a table and a bias."""
    features = [FEATURES[name] for name in pair]
    scale, bound = 1.0, None
    for feature in features:
        options.update(feature.options)
        scale, bound = scale * feature.scale, bound or feature.bound
    constraint = bound and (lambda v: tf.clip_by_value(v, -bound, bound))
    var_list = [
        tf.Variable(v, constraint=constraint)
        for v in models.variables(((ROWS, 3), (3,)))
    ]
    optimizer = inner = make(case, **options)
    for feature in features:
        if feature.wrap is not None:
            wrapper = feature.wrap if make is models.ours else STOCK_WRAPPER
            optimizer = wrapper(inner, initial_scale=SCALE)
    rng = np.random.default_rng(3)
    for _ in range(STEPS):
        values = tf.constant(rng.normal(size=(5, 3)) * scale, tf.float32)
        table = models.slices(rng.integers(0, ROWS, size=5), values, ROWS)
        bias = tf.constant(rng.normal(size=3) * scale, tf.float32)
        table = table if sparse else models.dense(table)
        optimizer.apply_gradients(zip((table, bias), var_list, strict=True))
    averages = getattr(inner, "_model_variables_moving_average", [])
    return [v.numpy() for v in (*var_list, *averages)]


def assert_close(left, right, rtol):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


@pairs
@a_few
def test_dense_gradients_as_stock(case, pair):
    if "accumulation" in pair and flavours.is_keras_before("3.5"):
        pytest.skip("it clips, decays and counts in every micro-step")
    mine, theirs = (trained(case, pair, make) for make in (models.ours, models.stock))
    assert_close(mine, theirs, rtol=1e-5)


@pairs
@a_few
def test_sparse_gradients_as_the_dense_ones(case, pair):
    mine, dense = (
        trained(case, pair, models.ours, sparse, sparse_update="dense")
        for sparse in (True, False)
    )
    assert_close(mine, dense, rtol=2e-6)


# Of all but the scales: a scale that is taken off again is to change nothing.
@pytest.mark.parametrize("one", [marked((n,)) for n in FEATURES if n not in SCALES])
@a_few
def test_each_feature_changes_the_result(case, one):
    """Else the pairs above would compare nothing."""
    plain = trained(case, (), models.ours)
    assert not np.allclose(trained(case, one, models.ours)[0], plain[0])
