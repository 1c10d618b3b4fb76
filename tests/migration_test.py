"""docs/migration.md: every line of its tables does what it says."""

import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import keras_numbers, models, torch_numbers
from tests.marks import both_flavours
from tests.style_test import ROOT

PAGE = (ROOT / "docs/migration.md").read_text()
LINES = re.findall(r"^\| `([^`]+)`([^|]*)\| `([^`]+)`", PAGE, re.M)
# tests/torch_parity_test.py and tests/field_test.py have those of other tests.
SCHEDULE_FREE = "tf.keras.optimizers.ScheduleFreeAdamW"
KERAS = [
    (old, where, new)
    for old, where, new in LINES
    if old.startswith(("tf.keras", "tf_optim")) and not old.startswith(SCHEDULE_FREE)
]
OTHERS = [
    (old, new)
    for old, where, new in LINES
    if not old.startswith(("tf.keras", "tf_optim")) and old not in torch_numbers.lines()
]
SHAPES = ((7, 5), (5,))


def schedule():
    """The class that the page has for cyclical schedules."""
    names = {}
    exec(re.search(r"```python\n(.*?class Cyclical.*?)```", PAGE, re.S)[1], names)
    return names["Cyclical"]


def made(code):
    names = {"tf": tf, "tf_optim": tf_optim}
    if "Cyclical" in code:
        names["Cyclical"] = schedule()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return eval(code, names)


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
@pytest.mark.parametrize(("old", "where", "new"), KERAS)
def test_lines_of_keras_give_the_same(old, where, new):
    try:
        theirs = made(old)
    except (AttributeError, ImportError, TypeError, ValueError):
        assert ("Keras 3" if hasattr(tf.keras, "ops") else "tf_keras") not in where, old
        assert where, old
        pytest.skip("this Keras has not that optimizer or argument")
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
    renamed = {"average_decay": "ema_momentum"}
    for name, value in arguments.items():
        name = renamed.get(name, name)
        if hasattr(optimizer, name):
            expected = float(eval(value))
            assert float(getattr(optimizer, name)) == pytest.approx(expected), name


def test_every_line_is_in_a_test():
    assert len(KERAS) > 25 and len(OTHERS) > 20
    torch = torch_numbers.lines().items()
    of_torch = {(old, new) for old, _, new in LINES if (old, new) in torch}
    assert len(of_torch) == len(torch)
    (line,) = (line for line in LINES if line[0].startswith(SCHEDULE_FREE))
    assert line[0] == f"tf.keras.optimizers.{keras_numbers.LINE}"
    assert line[2] == f"tf_optim.{keras_numbers.LINE}"
    assert len(LINES) == len(KERAS) + len(OTHERS) + len(torch) + 1


@both_flavours
@pytest.mark.parametrize("kind", ["Triangular", "Triangular2", "Exponential"])
def test_cyclical_schedule(kind):
    """Up and down between the rates, lower in each cycle or in each step."""
    ((old, new),) = ((a, b) for a, b in OTHERS if a.startswith(f"{kind}Cyclical"))
    low, high, half = map(float, re.findall(r"[\d.]+", old.partition("(")[2])[:3])
    steps = np.arange(100)
    # A cycle is `2 * half` steps, its top in the middle.
    share = np.interp(steps % (2 * half), [0, half, 2 * half], [0, 1, 0])
    factors = {
        "Triangular": np.ones(100),
        "Triangular2": np.repeat([1, 1 / 2, 1 / 4], 40)[:100],
        "Exponential": 0.99**steps,
    }
    expected = low + (high - low) * share * factors[kind]
    config = made(new).get_config()["learning_rate"]["config"]
    cls = schedule()
    for rates in (cls(**config), cls.from_config(config)):
        received = [float(rates(tf.constant(step, tf.int64))) for step in steps]
        np.testing.assert_allclose(received, expected, rtol=1e-5)
    optimizer = made(new)
    trained(optimizer, steps=6)
    # tf_keras keeps that of the last step, Keras 3 asks for that of the next.
    step = 6 if hasattr(tf.keras, "ops") else 5
    rate = float(optimizer.learning_rate)
    np.testing.assert_allclose(rate, expected[step], rtol=1e-5)
