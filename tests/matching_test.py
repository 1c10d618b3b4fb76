"""Arguments that name variables by regular expressions."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import both_flavours, both_ways, kinds
from tf_optim import reference

pytestmark = both_flavours

SHAPES = ((4, 3), (3,), (2, 3))
LAYERWISE = [c for c in cases.RICHEST if "weight_decay_rate" in c.optimizer.defaults]


def variables():
    names = ("body/kernel", "body/bias", "head/kernel")
    return [
        tf.Variable(v, name=name)
        for v, name in zip(models.variables(SHAPES), names, strict=True)
    ]


def trained(make, steps=4, graph=True, rate=None, chosen=(0, 1, 2)):
    """Variables and slots after training those of `chosen`."""
    var_list = [variables()[i] for i in chosen]
    optimizer = make()
    if rate is not None:
        optimizer.learning_rate = rate
    grads = [[each[i] for i in chosen] for each in models.gradients(steps, SHAPES)]
    models.train(optimizer, var_list, grads, graph)
    return [v.numpy() for v in var_list]


@both_ways
@kinds
def test_a_multiplier_is_another_learning_rate(case, graph):
    rate = case.optimizer.learning_rate

    def make(**arguments):
        return lambda: models.ours(case, rate, weight_decay=0.1, **arguments)

    factors = {"kernel": 0.5, "body": 4.0}  # the first that is found counts
    together = trained(make(learning_rate_multipliers=factors), graph=graph)
    for i, factor in enumerate((0.5, 4.0, 0.5)):
        (alone,) = trained(make(), graph=graph, rate=rate * factor, chosen=[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-6, atol=1e-7)


@kinds
def test_a_multiplier_of_0_freezes(case):
    def make(**arguments):
        return lambda: models.ours(case, weight_decay=0.1, use_ema=True, **arguments)

    received = trained(make(learning_rate_multipliers={"^body/bias": 0}))
    np.testing.assert_array_equal(received[1], variables()[1])
    for i in (0, 2):
        (alone,) = trained(make(), chosen=[i])
        np.testing.assert_array_equal(received[i], alone)
    optimizer, var = make(learning_rate_multipliers={"": 0.0})(), variables()[0]
    optimizer.apply_gradients([(tf.ones_like(var), var)])
    np.testing.assert_array_equal(var, variables()[0])
    assert int(optimizer.iterations) == 1


def test_multipliers_of_tables_in_exact_mode():
    results = []
    for arguments, rate in (
        ({"learning_rate_multipliers": {"t": 0.5}}, 0.2),
        ({}, 0.1),
    ):
        table = tf.Variable(np.ones((6, 2), np.float32), name="t")
        optimizer = tf_optim.Adam(rate, sparse_update="exact", **arguments)
        tf_optim.lookup(table, tf.constant([0]))
        for ids in ([0, 1], [2, 3], [0, 5]):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf_optim.lookup(table, tf.constant(ids)) ** 2)
            optimizer.apply_gradients([(tape.gradient(loss, table), table)])
        optimizer.catch_up()
        results.append(table.numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)
    assert np.all(results[0][1] != 1.0)


@kinds
def test_weight_decay_leaves_out_what_is_named(case):
    # Another decay, which is left out of the same variables.
    none = {"weight_decay_rate": 0.0} if case in LAYERWISE else {}

    def make(**arguments):
        return lambda: models.ours(case, **none, **arguments)

    rates = {"weight_decay": 0.3, "exclude_from_weight_decay": ["bias", "head/"]}
    if case in LAYERWISE:  # else they would not adapt either
        rates["exclude_from_layer_adaptation"] = []
    received = trained(make(**rates))
    for i, decay in enumerate((0.3, None, None)):
        (alone,) = trained(make(weight_decay=decay), chosen=[i])
        np.testing.assert_array_equal(received[i], alone)


@pytest.mark.parametrize("case", LAYERWISE, ids=str)
def test_layers_are_left_out_of_decay_and_of_adaptation(case):
    arguments = {
        "weight_decay_rate": 0.2,
        "exclude_from_weight_decay": ["bias"],
        "exclude_from_layer_adaptation": ["head"],
    }
    received = trained(lambda: models.ours(case, **arguments))
    both = {**arguments, "exclude_from_layer_adaptation": None}
    as_decay = trained(lambda: models.ours(case, **both))
    for i, (decay, adapts) in enumerate([(0.2, 1.0), (0.0, 1.0), (0.2, 0.0)]):
        assert_reference(received[i], i, case, decay, adapts)
    assert_reference(as_decay[1], 1, case, 0.0, 0.0)
    assert_reference(as_decay[2], 2, case, 0.2, 1.0)


def assert_reference(received, i, case, decay, adapts):
    p = np.float64(variables()[i].numpy())
    slots = {slot.name: slot.start(p) for slot in case.slots}
    hyper = {**case.hyper, "weight_decay_rate": decay, "layer_adaptation": adapts}
    for t, grads in enumerate(models.gradients(4, SHAPES), 1):
        g = np.float64(grads[i].numpy())
        rule = reference.RULES[case.name]
        p, slots = rule(p, slots, g, hyper, models.rate(case), t)
    np.testing.assert_allclose(received, p, rtol=1e-5, atol=1e-6)


def test_they_are_in_the_configuration():
    arguments = {
        "learning_rate_multipliers": {"a": 2.0},
        "exclude_from_weight_decay": ["b"],
    }
    config = tf_optim.Adam(**arguments).get_config()
    assert arguments.items() <= config.items()
    assert tf_optim.Adam.from_config(config).get_config() == config
    layers = {"weight_decay_rate": 0.1, "exclude_from_layer_adaptation": ["c"]}
    config = tf_optim.Lamb(**layers).get_config()
    assert layers.items() <= config.items()
    assert tf_optim.Lamb.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"learning_rate_multipliers": {"(": 1.0}}, "regular expressions"),
        ({"learning_rate_multipliers": {"a": -1.0}}, "numbers >= 0"),
        ({"learning_rate_multipliers": ["a"]}, "must be a dict"),
        ({"exclude_from_weight_decay": ["["]}, "regular expressions"),
        ({"exclude_from_weight_decay": [3]}, "regular expressions"),
    ],
    ids=str,
)
def test_wrong_ones(wrong, expected):
    with pytest.raises(ValueError) as error:
        tf_optim.SGD(**wrong)
    assert expected in str(error.value)
    with pytest.raises(ValueError, match="regular expressions"):
        tf_optim.Lamb(exclude_from_layer_adaptation=["("])


def test_weight_decay_rate_is_an_old_spelling():
    with pytest.warns(DeprecationWarning, match="use `weight_decay`"):
        optimizer = tf_optim.AdamW(weight_decay_rate=0.25)
    assert optimizer.weight_decay == 0.25
    with pytest.raises(ValueError, match="only one of them"):
        tf_optim.AdamW(weight_decay=0.1, weight_decay_rate=0.25)
