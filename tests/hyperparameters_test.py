"""Hyperparameters as people pass them: numbers of NumPy, tensors, variables."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways, richest
from tf_optim import keras_private, specs

pytestmark = both_flavours

MAKE = {
    "float32": np.float32,
    "float16": np.float16,
    "array": np.array,
    "tensor": lambda x: tf.constant(x, tf.float64),
    "variable": lambda x: tf.Variable(x, dtype=tf.float64),
}
make = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
SHAPES = ((4, 3), (3,))
# Stock asks for a Python float itself.
FLOAT_ONLY = {
    "SGD": {"momentum"},
    "Ftrl": set(),
    "Lion": {"beta_1", "beta_2"},
}


def numbers_of(case):
    """Hyperparameters to set, eighths, which every type can hold."""
    only = FLOAT_ONLY.get(case.name, set())
    names = [n for n, default in case.hyper.items() if isinstance(default, float)]
    numbers = {name: 0.5 for name in names if name not in only}
    for hyper in specs.SPECS[case.name].hyper:
        if hyper.low > 0.5:
            numbers.pop(hyper.attribute, None)
    numbers = {**numbers, "weight_decay": 0.125}
    if "learning_rate_power" in numbers:
        numbers["learning_rate_power"] = -0.5
    return numbers


def trained(case, graph, numbers):
    optimizer = models.ours(case, 0.1, **numbers)
    variables = models.variables(SHAPES)
    models.train(optimizer, variables, models.gradients(3, SHAPES), graph)
    return models.everything(variables, optimizer), optimizer


@both_ways
@make
@richest
def test_any_number_will_do(case, make, graph):
    numbers = numbers_of(case)
    skip = set()
    if make is not np.float32:
        skip = {"momentum"}  # stock's own code branches on it
        if case.name in ("Ftrl", "Nadam"):
            skip = numbers.keys() - {"weight_decay"}
    given = {k: v if k in skip else make(v) for k, v in numbers.items()}
    values, _ = trained(case, graph, given)
    expected, _ = trained(case, graph, numbers)
    for left, right in zip(values, expected, strict=True):
        np.testing.assert_array_equal(left, right)


@make
@richest
def test_the_configuration_holds_numbers_of_python(case, make):
    optimizer = models.ours(case, 0.1, weight_decay=make(0.125), clipnorm=make(0.5))
    config = optimizer.get_config()
    assert json.loads(json.dumps(config))["weight_decay"] == 0.125
    assert type(optimizer).from_config(config).clipnorm == 0.5


@both_ways
def test_a_variable_is_followed(graph):
    """As in stock's: what it holds when the step is taken."""
    decay = tf.Variable(0.5)
    beta_1 = tf.Variable(0.0)
    optimizer = tf_optim.AdamW(0.1, weight_decay=decay, beta_1=beta_1)
    variable = tf.Variable([1.0, 2.0])
    optimizer.build([variable])

    def step(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    step = tf.function(step) if graph else step
    expected = np.array([1.0, 2.0])
    for rate in (0.5, 0.25, 0.0):
        decay.assign(rate)
        step(tf.zeros([2]))
        expected = expected * (1 - 0.1 * rate)
        np.testing.assert_allclose(variable, expected, rtol=1e-6)
    beta_1.assign(0.5)
    step(tf.ones([2]))
    np.testing.assert_allclose(models.state(optimizer)[0], [0.5, 0.5])


@both_ways
def test_a_variable_out_of_range_is_an_error_of_the_step(graph):
    beta_2 = tf.Variable(0.9)
    optimizer, variable = tf_optim.Adam(0.1, beta_2=beta_2), tf.Variable([1.0])
    optimizer.build([variable])

    def step():
        optimizer.apply_gradients([(tf.ones([1]), variable)])

    step = tf.function(step) if graph else step
    step()
    before = models.everything([variable], optimizer)
    beta_2.assign(1.5)
    error = tf.errors.InvalidArgumentError if graph else ValueError
    with pytest.raises(error, match=r"beta_2`? must be in \[0, 1\)"):
        step()
    for left, right in zip(
        before, models.everything([variable], optimizer), strict=True
    ):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("value", ["0.9", [0.9], np.ones(2), None, True, np.nan])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"`beta_1` must be in \[0, 1\)\. Received"):
        tf_optim.Adam(0.1, beta_1=value)


SWITCHED = [
    ("SGD", "momentum", 0.9, 0.0),
    ("RMSprop", "momentum", 0.9, 0.0),
    ("RMSprop", "centered", True, False),
    ("Adam", "amsgrad", True, False),
    ("AdamW", "amsgrad", True, False),
]


@pytest.mark.parametrize(("name", "option", "on", "off"), SWITCHED)
def test_an_option_that_is_switched_off_and_on_is_stocks(name, option, on, off):
    """With its slots there; what a step without it leaves of them counts too."""
    gradients = (
        np.random.default_rng(0).normal(size=(8, 2)) / 2.0 ** np.arange(8)[:, None]
    )

    def trained(module):
        variable = tf.Variable([1.0, 2.0], dtype=tf.float64)
        optimizer = getattr(module, name)(0.125, **{option: on})
        optimizer.build([variable])
        for step, gradient in enumerate(gradients):
            setattr(optimizer, option, off if step % 3 == 1 else on)
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        return variable.numpy()

    expected = trained(tf.keras.optimizers)
    np.testing.assert_allclose(trained(tf_optim), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "option", "on", "off"), SWITCHED)
def test_an_option_without_its_slots_is_refused(name, option, on, off):
    variable = tf.Variable([1.0, 2.0])
    optimizer = getattr(tf_optim, name)(0.125, **{option: off})
    optimizer.build([variable])
    setattr(optimizer, option, on)
    gradient = tf.ones([2])
    if name == "SGD" and not keras_private.is_keras_3():  # which has made them
        optimizer.apply_gradients([(gradient, variable)])
        return
    with pytest.raises(ValueError, match=f"`{option}` must be set before"):
        optimizer.apply_gradients([(gradient, variable)])


def test_float64_hyperparameters_are_not_rounded():
    """0.1 in float32 is another number: tf.cast takes a float there on its way."""
    variable = tf.Variable([1.0, 2.0], dtype=tf.float64)
    optimizer = tf_optim.SGD(0.5, weight_decay=0.1)
    optimizer.apply_gradients([(tf.zeros([2], tf.float64), variable)])
    np.testing.assert_allclose(variable, [0.95, 1.9], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_ema", True),
        ("averaging", tf_optim.Lookahead()),
        ("gradient_accumulation_steps", 2),
        ("amsgrad", True),
    ],
)
def test_what_needs_variables_of_its_own_is_said_before_they_are_made(name, value):
    optimizer = tf_optim.AdaBelief(0.1)
    variable = tf.Variable([1.0])
    setattr(optimizer, name, value)
    assert getattr(optimizer, name) == value
    is_flag = isinstance(value, bool)
    setattr(optimizer, name, False if is_flag else None)
    optimizer.apply_gradients([(tf.ones([1]), variable)])
    setattr(optimizer, name, value)
    before = variable.numpy()
    with pytest.raises(ValueError, match=f"`{name}` must be set before"):
        optimizer.apply_gradients([(tf.ones([1]), variable)])
    np.testing.assert_array_equal(variable, before)


@both_flavours
@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("Adam", "amsgrad", 1),
        ("Adam", "amsgrad", np.True_),
        ("Adam", "amsgrad", np.array(True)),
        ("Adam", "amsgrad", tf.constant(True)),
        ("Adam", "amsgrad", None),
        ("SGD", "nesterov", np.bool_(False)),
        ("Adam", "ema_overwrite_frequency", 0),
        ("Adam", "ema_overwrite_frequency", np.int64(5)),
        ("Adam", "averaging", tf_optim.Lookahead(6.0)),
    ],
    ids=str,
)
def test_values_that_mean_a_switch_or_a_count(name, argument, value):
    optimizer = getattr(tf_optim, name)(**{argument: value})
    variable = tf.Variable([1.0, 2.0])
    optimizer.apply_gradients([(tf.ones([2]), variable)])
    assert np.all(variable.numpy() < [1.0, 2.0])
    config = optimizer.get_config()
    if argument != "amsgrad" or isinstance(value, (int, np.bool_)):
        assert type(optimizer).from_config(config).get_config() == config


@both_flavours
@pytest.mark.parametrize(
    "value",
    ["False", 1j, [], lambda: True],
    ids=["text", "complex", "list", "function"],
)
def test_values_that_mean_no_switch(value):
    with pytest.raises(ValueError, match="`amsgrad` must be True or False"):
        tf_optim.Adam(amsgrad=value)


@both_flavours
@pytest.mark.parametrize("value", [1.5, -1, "x", [1, 2]], ids=str)
def test_a_frequency_that_is_set_wrong_later(value):
    optimizer, variable = tf_optim.SGD(0.5, use_ema=True), tf.Variable([1.0, 2.0])
    optimizer.build([variable])
    optimizer.ema_overwrite_frequency = value
    with pytest.raises(
        ValueError, match="`ema_overwrite_frequency` must be an integer"
    ):
        optimizer.apply_gradients([(tf.ones([2]), variable)])
    np.testing.assert_array_equal(variable, [1.0, 2.0])
    assert int(optimizer.iterations) == 0
