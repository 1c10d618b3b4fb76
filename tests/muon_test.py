"""Muon against Keras' own where there is one, and against what its paper says."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways, keras_3_only

SHAPES = ((6, 4), (4, 6), (6, 4), (5,), (2, 3, 4), ())
STOCK = getattr(tf.keras.optimizers, "Muon", None)
needs_stock = pytest.mark.skipif(STOCK is None, reason="this Keras has no Muon")


def variables(names=("a", "b", "exclude", "d", "e", "f")):
    """Keras' variables have a path, which stock's Muon reads."""
    start = [v.numpy() for v in models.variables(SHAPES)]
    if not hasattr(tf.keras, "ops"):
        pairs = zip(start, names, strict=True)
        return [tf.Variable(value, name=name) for value, name in pairs]
    made = []
    for value, name in zip(start, names, strict=True):
        with tf.keras.name_scope(name):
            made.append(tf.keras.Variable(value, name="v"))
    return made


def trained(optimizer, steps, graph=False):
    var_list = variables()
    models.train(optimizer, var_list, models.gradients(steps, SHAPES), graph)
    return var_list


@needs_stock
@keras_3_only
@pytest.mark.parametrize("excluded", ["a/", "v", "b"])
def test_names_that_do_not_decay_are_looked_for_as_in_keras(excluded):
    """In a variable's name, and not in its path."""
    results = []
    for make in (STOCK, tf_optim.Muon):
        optimizer = make(0.01, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=[excluded])
        results.append(trained(optimizer, 2))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@needs_stock
@keras_3_only
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"nesterov": False, "rms_rate": None, "weight_decay": None},
        {"exclude_layers": ["exclude"], "adam_lr_ratio": 0.5, "momentum": 0.8},
        {"global_clipnorm": 1.0, "adam_weight_decay": None, "ns_steps": 3},
        {"clipvalue": 0.5, "use_ema": True, "ema_momentum": 0.9},
    ],
    ids=str,
)
def test_100_steps_are_keras(arguments):
    rate = 0.01
    expected = trained(STOCK(rate, **arguments), 100, graph=True)
    mine = tf_optim.Muon(rate, **arguments)
    received = trained(mine, 100, graph=True)
    for new, old, start in zip(received, expected, variables(), strict=True):
        largest = np.max(np.abs(old.numpy()))
        assert np.max(np.abs(old.numpy() - start.numpy())) > 0.05
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5 * largest)


@needs_stock
@keras_3_only
def test_variables_and_configuration_are_keras():
    made = []
    for make in (STOCK, tf_optim.Muon):
        optimizer = make(0.01, exclude_layers=["exclude"], name="m")
        optimizer.build(variables())
        made.append(optimizer)
    theirs, mine = made
    assert [v.shape for v in mine.variables] == [v.shape for v in theirs.variables]
    config = mine.get_config()
    expected = theirs.get_config()
    assert {name: config[name] for name in expected} == expected
    assert type(mine).from_config(config).get_config() == config
    fused = tf_optim.fuse(theirs)
    assert type(fused) is tf_optim.Muon
    assert type(tf_optim.unfuse(fused)) is STOCK


@both_flavours
@both_ways
def test_a_step_is_that_of_the_paper(graph):
    """One step from a momentum of 0 moves along the gradient's orthogonal part."""
    optimizer = tf_optim.Muon(0.1, weight_decay=0.5, ns_steps=8, rms_rate=None)
    grads = models.gradients(1, SHAPES)
    before = [v.numpy() for v in variables()]
    after = variables()
    models.train(optimizer, after, grads, graph)
    for i in range(3):
        u, _, vh = np.linalg.svd(grads[0][i], full_matrices=False)
        step = (before[i] * (1 - 0.1 * 0.5) - after[i].numpy()) / 0.1
        sizes = np.diag(u.T @ step @ vh.T)
        assert np.all((sizes > 0.6) & (sizes < 1.3))
        others = step - u @ np.diag(sizes) @ vh
        assert np.max(np.abs(others)) < 1e-3
    adam = tf_optim.AdamW(0.1, weight_decay=0.004)
    beside = [tf.Variable(value) for value in before[3:]]
    adam.apply_gradients(zip(grads[0][3:], beside, strict=True))
    for mine, wanted in zip(after[3:], beside, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def orthogonal(x, steps, a=3.4445, b=-4.775, c=2.0315):
    """Newton-Schulz with the paper's numbers: each singular value s of x, which is
    scaled to a norm of 1 before, becomes a s + b s^3 + c s^5."""
    u, sizes, vh = np.linalg.svd(x, full_matrices=False)
    sizes = sizes / (np.sqrt(np.sum(sizes**2)) + 1e-7)
    for _ in range(steps):
        sizes = a * sizes + b * sizes**3 + c * sizes**5
    return (u * sizes) @ vh


@both_flavours
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_the_formula(nesterov):
    """In float64, by singular values and not by products of matrices."""
    rate, decay, momentum = 0.1, 0.5, 0.8
    optimizer = tf_optim.Muon(
        rate, weight_decay=decay, momentum=momentum, nesterov=nesterov
    )
    received = trained(optimizer, 6)
    for i, start in enumerate(variables()[:3]):
        p = np.float64(start.numpy())
        m = np.zeros_like(p)
        for grads in models.gradients(6, SHAPES):
            g = np.float64(grads[i])
            m = momentum * m + g
            step = orthogonal(g + momentum * m if nesterov else m, 5)
            p = p - rate * decay * p
            p = p - rate * 0.2 * np.sqrt(max(p.shape)) * step
        np.testing.assert_allclose(received[i], p, rtol=1e-5, atol=1e-5)


@both_flavours
def test_a_sparse_gradient_of_a_matrix_is_an_error_before_anything_changes():
    var = tf.Variable(np.ones((4, 3), np.float32), name="table")
    slices = models.slices([1], np.ones((1, 3), np.float32), 4)
    optimizer = tf_optim.Muon()
    with pytest.raises(ValueError, match="dense gradient.*'table.*exclude_layers"):
        optimizer.apply_gradients([(slices, var)])
    np.testing.assert_array_equal(var, np.ones((4, 3)))
    assert int(optimizer.iterations) == 0
    tf_optim.Muon(exclude_layers=["table"]).apply_gradients([(slices, var)])
    assert np.all(var.numpy()[1] != 1.0)


@both_flavours
def test_compiled_and_in_16_bits():
    optimizer = tf_optim.Muon(0.1)
    var = tf.Variable(np.eye(3), dtype="bfloat16")

    @tf.function(jit_compile=True)
    def step():
        optimizer.apply_gradients([(tf.identity(var), var)])

    step()
    assert np.float32(var)[0, 0] < 1.0
    assert np.isfinite(np.float32(var)).all()


@both_flavours
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"adam_beta_1": 1.0}, "[0, 1)"),
        ({"momentum": 1.5}, "[0, 1]"),
        ({"ns_steps": -1}, ">= 0"),
        ({"ns_steps": 2.5}, "`ns_steps` must be an integer"),
        ({"muon_b": float("nan")}, "`muon_b` must be a finite number"),
        ({"rms_rate": -1.0}, ">= 0"),
        ({"adam_weight_decay": "x"}, "`adam_weight_decay` must be"),
        ({"exclude_layers": ["("]}, "`exclude_layers` must have regular"),
        ({"adam_lr_ratio": 0.0}, "a number > 0"),
        ({"adam_lr_ratio": tf.constant(1.0)}, "a number > 0"),
    ],
    ids=str,
)
def test_wrong_arguments(wrong, expected):
    with pytest.raises(ValueError) as error:
        tf_optim.Muon(**wrong)
    assert expected in str(error.value)
