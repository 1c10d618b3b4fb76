"""Optimizers of both makes, and small models to train with them."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours


def stock(case, learning_rate=None, **arguments):
    """Stock's optimizer; skips the test if this flavour has none.

    By default at the case's own learning rate.
    """
    make = getattr(tf.keras.optimizers, case.name, None)
    if make is None:
        pytest.skip(f"this Keras has no {case.name}")
    rate = case.optimizer.learning_rate if learning_rate is None else learning_rate
    return make(rate, **{**case.arguments, **arguments})


def skip_where_stock_is_wrong(case):
    """Skips a test that compares with stock in a graph, which has a bug there."""
    if case.name == "ScheduleFreeAdamW":
        pytest.skip("Keras takes another step: see the class")
    if flavours.LEGACY and case.optimizer.wrong_in_graph:
        pytest.skip(f"tf_keras' {case.name} is wrong in a tf.function")


def ours(case, learning_rate=None, **arguments):
    make = getattr(tf_optim, case.name)
    rate = case.optimizer.learning_rate if learning_rate is None else learning_rate
    return make(rate, **{**case.arguments, **arguments})


def rate(case):
    """The case's learning rate as optimizers hold it, in float32."""
    return float(np.float32(case.optimizer.learning_rate))


def number(variable):
    """A scalar's value; variables of Keras 3.3 have no `__float__`."""
    return np.asarray(tf.convert_to_tensor(variable)).item()


SHAPES = ((7, 5), (5,), (3, 2, 4), ())


def variables(shapes=SHAPES, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [
        tf.Variable(rng.normal(size=shape), dtype=dtype, name=f"v{i}")
        for i, shape in enumerate(shapes)
    ]


def gradients(steps, shapes=SHAPES, dtype="float32", seed=1):
    """A list of gradients for each of `steps` steps."""
    rng = np.random.default_rng(seed)
    return [
        [tf.constant(rng.normal(size=shape), dtype) for shape in shapes]
        for _ in range(steps)
    ]


def train(optimizer, var_list, steps, graph=False):
    """Applies each list of gradients in turn; returns the traced function."""

    def step(grads):
        optimizer.apply_gradients(zip(grads, var_list, strict=True))

    if graph:
        step = tf.function(step)
        if not any(
            each.__module__.startswith("tf_optim") for each in type(optimizer).mro()
        ):
            # An oracle: a function that makes variables is traced twice.
            optimizer.build(var_list)
    for grads in steps:
        step(grads)
    return step


def slices(ids, values, rows):
    """A sparse gradient, as a tape makes it."""
    values = tf.convert_to_tensor(values)
    shape = tf.constant([rows, *values.shape[1:]])
    return tf.IndexedSlices(values, tf.convert_to_tensor(ids), shape)


def dense(gradient):
    """A gradient with its rows added up into the whole table."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows = gradient.dense_shape[0]
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, rows)


def classifier(seed=0, width=6, classes=3):
    tf.keras.utils.set_random_seed(seed)
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input((4,)),
            tf.keras.layers.Dense(width, activation="tanh"),
            tf.keras.layers.Dense(classes),
        ]
    )


def recommender(seed=0, rows=50, width=4):
    """An embedding and a dense layer: sparse and dense gradients in one step."""
    tf.keras.utils.set_random_seed(seed)
    ids = tf.keras.layers.Input((3,), dtype="int32")
    vectors = tf.keras.layers.Embedding(rows, width, name="table")(ids)
    score = tf.keras.layers.Dense(1)(tf.keras.layers.Flatten()(vectors))
    return tf.keras.Model(ids, score)


def classifier_data(count=64):
    rng = np.random.default_rng(5)
    return rng.normal(size=(count, 4)).astype("float32"), rng.integers(3, size=count)


def recommender_data(count=16, rows=50, unique=True):
    """Ids that are all different within a batch of `count`, or not."""
    rng = np.random.default_rng(6)
    if unique:
        ids = rng.permutation(rows)[: 3 * count]
    else:
        ids = rng.integers(rows // 5, size=3 * count)
    return ids.reshape(count, 3).astype("int32"), rng.normal(size=(count, 1))


def compiled(model, optimizer, loss="mse", **arguments):
    if loss == "classes":
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **arguments)
    return model


def state(optimizer):
    """Slot values in checkpoint order; without iterations and learning rate."""
    skip = ("iteration", "learning_rate")
    return [
        variable.numpy()
        for variable in optimizer.variables
        if not variable.name.split(":")[0].endswith(skip)
    ]


def everything(var_list, optimizer):
    """What training has made: variables, and all state of the optimizer."""
    return [v.numpy() for v in (*var_list, *optimizer.variables)]
