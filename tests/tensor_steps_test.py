"""Steps that TensorFlow's operations work out: one that fails changes nothing."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours
from tf_optim.benchmark import composed


@both_flavours
@pytest.mark.parametrize("name", composed.OPTIMIZERS)
def test_a_step_that_its_op_refuses_leaves_no_trace(name):
    decay = tf.Variable(0.5)
    optimizer = getattr(tf_optim, name)(0.1, weight_decay=decay)
    variables = models.variables([(4, 3), (5, 4)])
    optimizer.build(variables)

    @tf.function
    def step():
        optimizer.apply_gradients([(tf.ones(v.shape), v) for v in variables])

    step()
    before = [*(v.numpy() for v in variables), *models.state(optimizer)]
    decay.assign(-1.0)  # which only the op sees
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"weight_decay\[0\]"):
        step()
    after = [*(v.numpy() for v in variables), *models.state(optimizer)]
    assert all(np.isfinite(each).all() for each in before)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@both_flavours
@pytest.mark.parametrize("name", composed.OPTIMIZERS)
def test_shapes_that_only_the_step_knows(name):
    """TensorFlow's operations would broadcast a wrong one."""
    optimizer = getattr(tf_optim, name)(0.1)
    (variable,) = models.variables([(6, 4)])
    optimizer.build([variable])
    values = []
    for shape in ([None, None], None, [6, 4]):
        variable.assign(tf.ones([6, 4]))

        @tf.function(input_signature=[tf.TensorSpec(shape)])
        def step(gradient):
            optimizer.apply_gradients([(gradient, variable)])

        if shape != [6, 4]:
            for wrong in ([6, 1], [1, 4], [1, 1]):
                with pytest.raises(tf.errors.InvalidArgumentError):
                    step(tf.ones(wrong))
            np.testing.assert_array_equal(variable, np.ones([6, 4]))
            assert int(optimizer.iterations) == len(values)
        step(tf.ones([6, 4]))
        values.append(variable.numpy())
    assert np.all(values[0] < 1.0)
