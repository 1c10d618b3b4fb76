"""Checkpoints of optimizers whose tables are split, as parameter servers hold them.

The servers themselves are in distribute_servers_test.
"""

import re

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests.marks import keras_3_only
from tf_optim.keras_private import raw

pytestmark = keras_3_only

ROWS, WIDTH = 8, 2
OPTIMIZERS = {
    "momentum": lambda: tf_optim.SGD(0.1, momentum=0.9),
    "adam": lambda: tf_optim.Adam(0.1, amsgrad=True),
    "average": lambda: tf_optim.Adam(0.1, use_ema=True),
    "lookahead": lambda: tf_optim.Adam(0.1, averaging=tf_optim.Lookahead(3)),
    "accumulation": lambda: tf_optim.Adam(0.1, gradient_accumulation_steps=2),
    "several": lambda: tf_optim.MultiOptimizer([(tf_optim.Adam(0.1), None)]),
    "loss scale": lambda: tf_optim.LossScaleOptimizer(tf_optim.Adam(0.1)),
}


def made(parts):
    """A table in equal parts, and a variable of the shape of half of it."""
    shards = [tf.Variable(tf.zeros([ROWS // parts, WIDTH])) for _ in range(parts)]
    table = tf.__internal__.distribute.ShardedVariable(shards)
    return table, tf.Variable(tf.zeros([ROWS // 2, WIDTH]))


def state(optimizer):
    """Arrays by their slot's name and variable, a table's parts put together."""
    found = {}
    for variable in optimizer.variables:
        slot = re.sub(r"^Variable_\d+_", "", variable.path.rpartition("/")[2])
        found.setdefault(slot, []).append(variable)
    return {
        name: np.concatenate([np.ravel(v.numpy()) for v in variables])
        for name, variables in found.items()
    }


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("is_built_first", [True, False])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_checkpoint_is_restored_into_any_number_of_parts(
    kind, is_built_first, parts, tmp_path
):
    """Before and after the optimizer is built."""
    table, kernel = made(2)
    optimizer = OPTIMIZERS[kind]()
    optimizer.build([*table.variables, kernel])
    for i, variable in enumerate(optimizer.variables):
        values = tf.cast(tf.range(tf.size(variable)) + 100 * i, variable.dtype)
        raw(variable).assign(tf.reshape(values, variable.shape))
    expected = state(optimizer)
    path = tf.train.Checkpoint(t=table, k=kernel, o=optimizer).save(str(tmp_path / "c"))

    table, kernel = made(parts)
    optimizer = OPTIMIZERS[kind]()
    if is_built_first:
        optimizer.build([*table.variables, kernel])
    restored = tf.train.Checkpoint(t=table, k=kernel, o=optimizer).restore(path)
    if not is_built_first:
        optimizer.build([*table.variables, kernel])
    restored.assert_existing_objects_matched()
    received = state(optimizer)
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(received[name], values, err_msg=name)


@pytest.mark.parametrize(
    "wrap",
    [
        tf_optim.LossScaleOptimizer,
        lambda optimizer: tf_optim.MultiOptimizer([(optimizer, None)]),
    ],
    ids=["loss scale", "several"],
)
def test_stocks_optimizers_inside_of_ours_are_restored(wrap, tmp_path):
    """Stock has each part's slots by themselves."""
    expected = None
    for _ in range(2):
        table, kernel = made(2)
        optimizer = wrap(tf.keras.optimizers.Adam(0.1))
        optimizer.build([*table.variables, kernel])
        checkpoint = tf.train.Checkpoint(o=optimizer)
        if expected is None:
            for i, variable in enumerate(optimizer.variables):
                raw(variable).assign(
                    tf.cast(tf.fill(variable.shape, i), variable.dtype)
                )
            expected = state(optimizer)
            path = checkpoint.save(str(tmp_path / "c"))
    checkpoint.restore(path).assert_existing_objects_matched()
    for name, values in state(optimizer).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("kind", ["NovoGrad", "Prodigy"])
def test_a_rule_that_looks_at_whole_variables_refuses_parts(kind):
    table, kernel = made(2)
    optimizer = getattr(tf_optim, kind)()
    with pytest.raises(ValueError, match=rf"{kind} must be given whole variables.*"):
        optimizer.build([*table.variables, kernel])
