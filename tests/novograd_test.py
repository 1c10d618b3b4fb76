"""NovoGrad against TensorFlow Addons' formula, in float64."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways

pytestmark = both_flavours

SHAPES = ((7, 5), (5,), ())
DEFAULTS = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay_rate": 0.0}


def expected(steps, rate, clip=np.inf, weight_decay=0.0, **arguments):
    """Ginsburg et al., 2019, algorithm 1, the momentum as Addons kept it."""
    h = DEFAULTS | arguments
    values = [np.float64(v.numpy()) for v in models.variables(SHAPES)]
    m = [np.zeros_like(v) for v in values]
    v, largest = np.zeros(len(values)), np.zeros(len(values))
    for t, grads in enumerate(models.gradients(steps, SHAPES)):
        for i, grad in enumerate(grads):
            g = np.clip(np.float64(grad.numpy()), -clip, clip)
            keep = h["beta_2"] if t else 0.0
            v[i] = keep * v[i] + (1 - keep) * np.sum(g**2)
            largest[i] = max(largest[i], v[i])
            root = np.sqrt(largest[i] if h.get("amsgrad") else v[i])
            values[i] = values[i] * (1 - rate * weight_decay)
            d = g / (root + h["epsilon"]) + h["weight_decay_rate"] * values[i]
            if h.get("grad_averaging") and t:
                d *= 1 - h["beta_1"]
            m[i] = h["beta_1"] * m[i] - rate * d
            values[i] = values[i] + m[i]
    return values, v


@both_ways
@pytest.mark.parametrize(
    "arguments",
    [
        {"weight_decay": 0.1},
        {"beta_2": 0.6, "amsgrad": True, "grad_averaging": True},
        {"beta_2": 0.5, "epsilon": 0.1, "clipvalue": 0.5},
        {"weight_decay_rate": 0.2, "grad_averaging": True, "beta_1": 0.5},
        {"weight_decay_rate": 0.8, "weight_decay": 1.5},
    ],
    ids=str,
)
def test_the_formula(arguments, graph):
    optimizer, var_list = (
        tf_optim.NovoGrad(0.125, **arguments),
        models.variables(SHAPES),
    )
    models.train(optimizer, var_list, models.gradients(12, SHAPES), graph)
    clip = {"clip": arguments["clipvalue"]} if "clipvalue" in arguments else {}
    values, norms = expected(12, 0.125, **clip, **arguments)
    for mine, wanted in zip(var_list, values, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
    velocities = [np.float64(each) for each in optimizer._velocities]
    np.testing.assert_allclose(velocities, norms, rtol=1e-5)


@both_ways
@pytest.mark.parametrize("mode", ["lazy", "dense"])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_sparse_gradients(mode, clip, graph):
    """Repeated ids are summed before the norm; lazy steps leave other rows alone."""
    ids, rows = [3, 1, 3], np.float32(np.random.default_rng(0).normal(size=(3, 5)))
    whole = np.zeros((7, 5), np.float32)
    np.add.at(whole, ids, rows)
    tables = [models.variables(SHAPES[:1])[0] for _ in range(2)]
    steps = [[models.slices(ids, rows, 7)], [models.slices([2], rows[:1], 7)]]
    others = [[models.dense(each) for each in grads] for grads in steps]
    sparse = tf_optim.NovoGrad(0.1, sparse_update=mode, clipvalue=clip)
    models.train(sparse, tables[:1], steps, graph)
    models.train(tf_optim.NovoGrad(0.1, clipvalue=clip), tables[1:], others, graph)
    same = [0, 2, 4, 5, 6] if mode == "lazy" else range(7)
    for row in same:
        np.testing.assert_allclose(tables[0][row], tables[1][row], rtol=1e-5)
    if mode == "lazy":
        assert np.max(np.abs(tables[0][1] - tables[1][1])) > 1e-3


@both_ways
@pytest.mark.parametrize("grad_averaging", [False, True])
def test_a_variable_whose_first_gradient_comes_late_starts_as_others_do(
    grad_averaging, graph
):
    values = []
    for late in (0, 3):
        variable, other = models.variables(((4,), (2,)))
        optimizer = tf_optim.NovoGrad(0.01, grad_averaging=grad_averaging)
        optimizer.build([variable, other])
        models.train(optimizer, [other], models.gradients(late, ((2,),)), graph)
        models.train(optimizer, [variable], models.gradients(5, ((4,),)), graph)
        values.append(variable.numpy())
    np.testing.assert_array_equal(*values)


def test_errors_come_before_anything_changes():
    var = tf.Variable(np.ones((4, 3), np.float32), name="table")
    slices = models.slices([1], np.ones((1, 3), np.float32), 4)
    with pytest.raises(ValueError, match="`weight_decay_rate` must be 0.*'table"):
        tf_optim.NovoGrad(weight_decay_rate=0.1).apply_gradients([(slices, var)])
    optimizer = tf_optim.NovoGrad()
    wrong = models.slices([7], np.ones((1, 3), np.float32), 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 4\)"):
        optimizer.apply_gradients([(wrong, var)])
    np.testing.assert_array_equal(var, np.ones((4, 3)))
    assert float(optimizer._velocities[0]) == int(optimizer.iterations) == 0
    for name, value, said in (
        ("beta_1", 1.5, r"\[0, 1\]"),
        ("beta_2", 1.0, r"\[0, 1\)"),
        ("weight_decay_rate", -0.1, ">= 0"),
        ("sparse_update", "exact", "'lazy' or 'dense'"),
    ):
        with pytest.raises(ValueError, match=said):
            tf_optim.NovoGrad(**{name: value})


@pytest.mark.parametrize("slot_dtype", ["float32", "bfloat16"])
def test_compiled_in_16_bits_and_restored(slot_dtype, tmp_path):
    def made(seed):
        optimizer = tf_optim.NovoGrad(0.1, amsgrad=True, slot_dtype=slot_dtype)
        start = np.random.default_rng(seed).normal(size=(6, 4))
        var = tf.Variable(start, dtype="bfloat16")
        optimizer.build([var])
        return optimizer, var, tf.train.Checkpoint(optimizer=optimizer, var=var)

    optimizer, var, saved = made(0)

    @tf.function(jit_compile=True)
    def step(optimizer, var):
        optimizer.apply_gradients([(tf.identity(var), var)])

    step(optimizer, var)
    path = saved.write(str(tmp_path / "state"))
    other, copy, restored = made(1)
    restored.read(path).assert_consumed()
    before = np.float32(var)
    for each, of in ((optimizer, var), (other, copy)):
        step(each, of)
    np.testing.assert_array_equal(np.float32(var), np.float32(copy))
    assert 0 < np.sum(np.square(np.float32(var))) < np.sum(np.square(before))
    config = optimizer.get_config()
    assert tf_optim.NovoGrad.from_config(config).get_config() == config
    assert [v.dtype for v in optimizer._velocities] == ["float32"]
