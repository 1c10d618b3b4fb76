"""`minimize`, `get_weights`, `set_weights`: in both flavours, and alike."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests import models
from tests.marks import a_few, both_flavours, both_ways, keras_3_only, kinds, richest

pytestmark = both_flavours

ROOT = Path(__file__).resolve().parent.parent
AS_WRITTEN = """
import tensorflow as tf
import tf_optim

opt = tf_optim.RMSprop(learning_rate=0.1)
var1 = tf.Variable(10.0)
opt.minimize(lambda: (var1 ** 2) / 2.0, [var1]).numpy()
print(var1.numpy())
"""


def test_minimize_as_written():
    run = subprocess.run(
        [sys.executable, "-c", AS_WRITTEN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "9.683772"


def losses():
    """A loss of two variables, and its gradients."""
    one, two = models.variables(((3,), (2, 2)))
    gradients = [2.0 * one.numpy(), 3.0 * two.numpy() ** 2]
    return (
        lambda: tf.reduce_sum(one**2) + tf.reduce_sum(two**3),
        [one, two],
        gradients,
    )


@both_ways
@richest
def test_minimize_applies_the_gradients_of_the_loss(case, graph):
    loss, var_list, grads = losses()
    optimizer = models.ours(case)
    optimizer.build(var_list)
    minimize = optimizer.minimize
    if graph:
        minimize = tf.function(lambda: optimizer.minimize(loss, var_list))
        done = minimize()
    else:
        done = minimize(loss, var_list)
    assert int(done) == 1 == int(optimizer.iterations)
    _, others, _ = losses()
    expected = models.ours(case)
    expected.apply_gradients(
        [(tf.constant(g), v) for g, v in zip(grads, others, strict=True)]
    )
    for left, right in zip(var_list, others, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)


@a_few
def test_minimize_takes_tapes_tensors_and_late_variables(case):
    results = []
    for kind in ("callable", "tensor", "late"):
        loss, var_list, _ = losses()
        optimizer = models.ours(case)
        if kind == "callable":
            optimizer.minimize(loss, var_list, tape=tf.GradientTape())
        elif kind == "late":
            optimizer.minimize(loss, lambda made=var_list: made)
        else:
            with tf.GradientTape() as tape:
                value = loss()
            optimizer.minimize(value, var_list, tape=tape)
        results.append(models.everything(var_list, optimizer))
    for other in results[1:]:
        for left, right in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(left, right)


@a_few
def test_minimize_of_a_tensor_needs_its_tape(case):
    var = tf.Variable(1.0)
    with pytest.raises(ValueError, match="`tape`.*tape=None"):
        models.ours(case).minimize(var * 2.0, [var])


@a_few
def test_minimize_of_an_embeddings_loss_is_sparse(case):
    table = models.variables(((6, 2),))[0]
    before = table.numpy()
    models.ours(case).minimize(
        lambda: tf.reduce_sum(tf.gather(table, [1, 4, 1])), [table]
    )
    changed = np.any(table.numpy() != before, axis=1)
    assert list(np.flatnonzero(changed)) == [1, 4]


@keras_3_only
@a_few
def test_minimize_scales_the_loss_that_the_step_unscales(case):
    results = []
    for factor in (None, 1024.0):
        loss, var_list, _ = losses()
        optimizer = models.ours(case, loss_scale_factor=factor)
        optimizer.minimize(loss, var_list)
        results.append(models.everything(var_list, optimizer))
    for left, right in zip(*results, strict=True):
        np.testing.assert_array_equal(left, right)


@keras_3_only
@a_few
def test_minimize_of_a_keras_models_variables(case):
    model = models.classifier()
    x, _ = models.classifier_data()
    optimizer = models.ours(case)
    before = model.get_weights()
    optimizer.minimize(lambda: tf.reduce_sum(model(x) ** 2), model.trainable_variables)
    assert not np.array_equal(model.get_weights()[0], before[0])


# --- weights


def trained(case, seed=0):
    var_list = models.variables(seed=seed)
    optimizer = models.ours(case)
    models.train(optimizer, var_list, models.gradients(3, seed=seed + 1))
    return var_list, optimizer


@richest
def test_weights_move_the_state(case):
    var_list, optimizer = trained(case)
    others, other = trained(case, seed=5)
    weights = optimizer.get_weights()
    assert all(isinstance(weight, np.ndarray | np.generic) for weight in weights)
    assert len(weights) == len(optimizer.variables)
    other.set_weights(weights)
    for mine, its in zip(others, var_list, strict=True):
        mine.assign(its)
    for each, variables in ((optimizer, var_list), (other, others)):
        models.train(each, variables, models.gradients(3, seed=7))
    for left, right in zip(
        models.everything(others, other),
        models.everything(var_list, optimizer),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)


@a_few
def test_set_weights_takes_variables_and_tensors(case):
    _, optimizer = trained(case)
    _, other = trained(case, seed=5)
    other.set_weights([tf.convert_to_tensor(v) for v in optimizer.variables])
    for left, right in zip(other.get_weights(), optimizer.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


@kinds
def test_wrong_weights_change_nothing(case):
    _, optimizer = trained(case)
    before = optimizer.get_weights()
    count = len(before)
    good = [np.zeros_like(weight) for weight in before]
    wrong_shape = [*good[:-1], np.zeros((9, 9))]
    for weights, message in (
        (good[:-1], f"list of {count} arrays. Received: {count - 1}"),
        ([*good, good[0]], f"list of {count} arrays. Received: {count + 1}"),
        (wrong_shape, r"must have shape .* Received: \(9, 9\)"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.set_weights(weights)
        for left, right in zip(optimizer.get_weights(), before, strict=True):
            np.testing.assert_array_equal(left, right)


@a_few
def test_set_weights_before_build(case):
    with pytest.raises(ValueError, match="not built"):
        models.ours(case).set_weights([1.0])
