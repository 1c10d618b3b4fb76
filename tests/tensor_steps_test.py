"""Steps that TensorFlow's operations work out: one that fails changes nothing."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours

TENSOR_STEPS = [
    "Adafactor",
    "ConditionalGradient",
    "Muon",
    "NovoGrad",
    "Prodigy",
    "SM3",
]


@both_flavours
@pytest.mark.parametrize("name", TENSOR_STEPS)
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
