"""Ours are torch's optimizers where docs/migration.md says so, over 100 steps.

Where torch is not installed, against what it has computed before.
"""

import importlib.util
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import torch_numbers
from tests.marks import both_flavours

HAS_TORCH = importlib.util.find_spec("torch") is not None


def trained(name):
    *_, kind, arguments = torch_numbers.PAIRS[name]
    variables = [tf.Variable(value) for value in torch_numbers.start()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # `schedule_decay`
        optimizer = getattr(tf_optim, kind)(**{"learning_rate": 0.01, **arguments})

    @tf.function
    def step(grads):
        optimizer.apply_gradients(zip(grads, variables, strict=True))

    for grads in torch_numbers.gradients():
        step([tf.constant(grad) for grad in grads])
    return [variable.numpy() for variable in variables]


@both_flavours
@pytest.mark.parametrize("name", torch_numbers.PAIRS)
def test_100_steps_are_torchs(name):
    of_torch = torch_numbers.of_torch if HAS_TORCH else torch_numbers.recorded
    pairs = zip(trained(name), of_torch(name), torch_numbers.start(), strict=True)
    for mine, theirs, start in pairs:
        assert np.max(np.abs(theirs - start)) > 0.02  # it moved
        scale = np.max(np.abs(theirs))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * scale)
