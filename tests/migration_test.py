"""docs/migration.md: every line of its tables does what it says."""

import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models, torch_numbers
from tests.marks import both_flavours
from tests.style_test import ROOT

LINES = re.findall(
    r"^\| `([^`]+)`[^|]*\| `([^`]+)`", (ROOT / "docs/migration.md").read_text(), re.M
)
KERAS = [(old, new) for old, new in LINES if old.startswith(("tf.keras", "tf_optim"))]
OTHERS = [line for line in LINES if line not in KERAS]
SHAPES = ((7, 5), (5,))


def made(code):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return eval(code, {"tf": tf, "tf_optim": tf_optim})


def trained(optimizer, steps=6):
    variables = models.variables(SHAPES)
    if hasattr(tf.keras, "ops"):  # stock's Muon asks for a path
        variables = [
            tf.keras.Variable(v.numpy(), name=f"v{i}") for i, v in enumerate(variables)
        ]
    models.train(optimizer, variables, models.gradients(steps, SHAPES))
    return [variable.numpy() for variable in variables]


def assert_moved(values):
    for value, start in zip(values, models.variables(SHAPES), strict=True):
        assert np.isfinite(value).all()
        assert np.max(np.abs(value - start)) > 1e-4


@both_flavours
@pytest.mark.parametrize(("old", "new"), KERAS)
def test_lines_of_keras_give_the_same(old, new):
    try:
        theirs = made(old)
    except (AttributeError, TypeError, ValueError):
        assert "Keras" not in old and not hasattr(tf.keras, "ops"), old
        pytest.skip("tf_keras has not that optimizer or argument")
    results = trained(made(new))
    assert_moved(results)
    for mine, other in zip(results, trained(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@both_flavours
@pytest.mark.parametrize(("old", "new"), OTHERS)
def test_other_lines_are_taken(old, new):
    """Where the other library has an argument of the same name, it has the value."""
    optimizer = made(new)
    assert_moved(trained(optimizer))
    arguments = dict(re.findall(r"(\w+)=([\w.+-]+)", old))
    if "W(" in old or "NovoGrad" in old:  # there it is not what it is here
        arguments.pop("weight_decay", None)
    renamed = {"lr": "learning_rate", "eps": "epsilon", "average_decay": "ema_momentum"}
    for name, value in arguments.items():
        name = renamed.get(name, name)
        if hasattr(optimizer, name) and "Adagrad(lr" not in old:
            expected = float(eval(value))
            assert float(getattr(optimizer, name)) == pytest.approx(expected), name


def test_lines_of_torch_are_compared_with_torch():
    text = (ROOT / "docs/migration.md").read_text().partition("## From torch")[2]
    classes = set(re.findall(r"^\| `(\w+)\(", text, re.M))
    assert classes == {kind for kind, *_ in torch_numbers.PAIRS.values()}
    assert len(LINES) > 35
