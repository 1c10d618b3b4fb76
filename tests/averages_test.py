"""`use_ema`: averages belong to variables, and not to their places in a list."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways, keras_3_only

EMA = {"use_ema": True, "ema_momentum": 0.5}


@both_flavours
def test_finalizing_some_of_the_variables():
    """As when a layer was frozen after the optimizer was built."""
    variables = models.variables(((2,), (2,), (2,)))
    optimizer = tf_optim.SGD(0.1, **EMA)
    models.train(optimizer, variables, models.gradients(3, ((2,), (2,), (2,))))
    averages = [a.numpy() for a in optimizer._model_variables_moving_average]
    first = variables[0].numpy()
    optimizer.finalize_variable_values(variables[:0:-1])
    np.testing.assert_array_equal(variables[0], first)
    np.testing.assert_array_equal(variables[1], averages[1])
    np.testing.assert_array_equal(variables[2], averages[2])


@keras_3_only
def test_a_layer_frozen_after_build_in_fit():
    """Stock raises there, or where lists are as long pairs them by position."""
    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.layers.Dense(3, use_bias=False) for _ in range(3)]
    model = tf.keras.Sequential([tf.keras.layers.Input((3,)), *layers])
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    model.compile(tf_optim.SGD(0.1, **EMA), "mse", jit_compile=False)
    model.fit(x, x, 4, 1, verbose=0)
    optimizer, frozen = model.optimizer, layers[0].kernel.numpy()
    layers[0].trainable = False
    model.compile(optimizer, "mse", jit_compile=False)
    model.fit(x, x, 4, 1, verbose=0)
    np.testing.assert_array_equal(layers[0].kernel, frozen)
    averages = optimizer._model_variables_moving_average
    for layer, average in zip(layers[1:], averages[1:], strict=True):
        np.testing.assert_array_equal(layer.kernel, average)


@both_flavours
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_ends_of_the_range_of_momentum(momentum):
    """0: the variable itself. 1: what the average began with."""
    (variable,) = models.variables(((3,),))
    begin = variable.numpy()
    optimizer = tf_optim.SGD(0.1, use_ema=True, ema_momentum=momentum)
    models.train(optimizer, [variable], models.gradients(1, ((3,),)))
    first = variable.numpy()
    models.train(optimizer, [variable], models.gradients(2, ((3,),), seed=4))
    average = optimizer._model_variables_moving_average[0]
    if momentum == 0.0:
        np.testing.assert_array_equal(average, variable)
    else:  # Keras 3 begins with the variable after the first step
        keras_3 = hasattr(tf.keras, "ops")
        np.testing.assert_array_equal(average, first if keras_3 else begin)


@both_ways
def test_a_step_of_frozen_variables_alone_moves_averages(graph):
    """As in stock with a learning rate of 0: their averages are their values."""
    frozen, other = (tf.Variable([1.0, 2.0], name=name) for name in ("body", "head"))
    optimizer = tf_optim.SGD(
        0.5, use_ema=True, ema_momentum=0.5, learning_rate_multipliers={"body": 0.0}
    )
    optimizer.build([frozen, other])
    optimizer.step_statistics = True
    models.train(optimizer, [frozen], [[tf.ones([2])]] * 2, graph)
    assert int(optimizer.iterations) == 2
    assert set(optimizer.step_statistics.numbers().values()) == {0.0}
    models.train(optimizer, [frozen, other], [[tf.ones([2]), tf.zeros([2])]], graph)
    optimizer.finalize_variable_values([frozen, other])
    for variable in (frozen, other):
        np.testing.assert_array_equal(variable, [1.0, 2.0])
    with pytest.raises(ValueError, match="shape"):
        optimizer.apply_gradients([(tf.ones([5]), frozen)])


@keras_3_only
def test_a_step_of_frozen_variables_alone_ends_a_window():
    frozen, other = (tf.Variable(0.0, name=name) for name in ("body", "head"))
    optimizer = tf_optim.SGD(
        1.0, gradient_accumulation_steps=2, learning_rate_multipliers={"body": 0.0}
    )
    optimizer.build([frozen, other])
    for gradient in (1.0, None, None, None, 10.0, 10.0):
        pairs = [(tf.constant(1.0), frozen)]
        if gradient is not None:
            pairs.append((tf.constant(gradient), other))
        optimizer.apply_gradients(pairs)
    # As in Keras: of the first window's end `other` has no gradient.
    assert float(other) == -10.0


@pytest.mark.parametrize("wrap", [lambda o: o, tf_optim.LossScaleOptimizer])
@pytest.mark.parametrize("options", [{}, {"use_ema": True}], ids=str)
def test_a_model_without_anything_to_train_ends_its_fit(options, wrap):
    model = models.classifier()
    before = model.get_weights()
    model.trainable = False
    model.compile(wrap(tf_optim.Adam(**options)), "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@keras_3_only
def test_a_frozen_model_is_left_alone_by_fit():
    model = models.classifier()
    before = model.get_weights()
    frozen = tf_optim.Adam(0.1, use_ema=True, learning_rate_multipliers={"": 0.0})
    model.compile(frozen, "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
