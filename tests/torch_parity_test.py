"""Ours are torch's optimizers where docs/migration.md says so, over 100 steps.

Where torch is not installed, against what it has computed before.
"""

import importlib.util
import inspect
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import torch_numbers
from tests.marks import both_flavours

HAS_TORCH = importlib.util.find_spec("torch") is not None
LINES = torch_numbers.lines()


def ours(line):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # `schedule_decay`
        return eval(LINES[line], {"tf": tf, "tf_optim": tf_optim})


def trained(optimizer):
    variables = [tf.Variable(value) for value in torch_numbers.start()]

    @tf.function
    def step(grads):
        optimizer.apply_gradients(zip(grads, variables, strict=True))

    for grads in torch_numbers.gradients():
        step([tf.constant(grad) for grad in grads])
    return [variable.numpy() for variable in variables]


@both_flavours
@pytest.mark.parametrize("line", LINES)
def test_100_steps_are_torchs(line):
    of_torch = torch_numbers.of_torch if HAS_TORCH else torch_numbers.recorded_of
    pairs = zip(trained(ours(line)), of_torch(line), torch_numbers.start(), strict=True)
    for mine, theirs, start in pairs:
        assert np.max(np.abs(theirs - start)) > 0.02  # it moved
        scale = np.max(np.abs(theirs))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * scale)


def test_every_line_is_one_that_is_compared():
    rows = re.findall(r"^\| `\w+\(.*tf_optim\..*\|$", torch_numbers.section(), re.M)
    assert len(rows) == len(LINES) > 15
    assert torch_numbers.recorded("results").keys() == LINES.keys(), (
        "run `python -m tests.torch_numbers` where torch is installed"
    )


def test_every_argument_of_torch_is_in_the_table():
    """With the classes that have it, and what it is here is an argument of ours."""
    signatures = torch_numbers.recorded("arguments")
    version = ".".join(torch_numbers.recorded("torch").split(".")[:2])
    assert f"have in torch {version})" in torch_numbers.section()
    assert sorted(signatures) == torch_numbers.classes()
    mine = {line.partition("(")[0]: type(ours(line)) for line in LINES}
    rows = re.findall(
        r"^\| `(\w+)` \| ([A-Z]?[\w, ]+) \| (.*) \|$", torch_numbers.section(), re.M
    )
    said = []
    for argument, kinds, here in rows:
        first, _, but = kinds.partition(" but ")
        names = signatures.keys() if first == "all" else first.split(", ")
        names = [name for name in names if name not in but.split(", ")]
        said += [(name, argument) for name in names]
        became = re.findall(r"`(\w+)`", re.split("[.:]|, which", here)[0])
        assert bool(became) != here.startswith("none: "), here
        for kind, name in ((kind, name) for kind in names for name in became):
            assert name in inspect.signature(mine[kind]).parameters, (kind, name)
    assert sorted(said) == sorted(
        (kind, argument)
        for kind, arguments in signatures.items()
        for argument in arguments
    )


def test_decay_that_is_added_to_the_gradient_is_a_term_of_the_loss():
    variable = tf.Variable([1.0, -2.0])
    with tf.GradientTape() as tape:
        loss = tf.keras.regularizers.L2(0.3 / 2)(variable)
    np.testing.assert_allclose(tape.gradient(loss, variable), [0.3, -0.6], rtol=1e-6)
