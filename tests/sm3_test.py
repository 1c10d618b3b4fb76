"""SM3 against the paper's algorithm SM3-II, in float64."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways

pytestmark = both_flavours

SHAPES = ((7, 5), (5,), (3, 2, 4), (), (4, 1))
IDS = ([3, 1, 3], [2, 3, 0])


def formula(p, state, g, rate, momentum, initial):
    """One step of one variable. Covers: the slices along each axis."""
    sums = state.setdefault("sums", [np.full(n, initial) for n in p.shape or (1,)])
    shaped = p.shape or (1,)
    v = np.full(shaped, np.inf)
    for place in np.ndindex(*shaped):
        v[place] = min(sums[axis][i] for axis, i in enumerate(place))
        v[place] += g.reshape(shaped)[place] ** 2
    for axis, each in enumerate(sums):
        each[:] = 0.0
        for place in np.ndindex(*shaped):
            each[place[axis]] = max(each[place[axis]], v[place])
    v = v.reshape(p.shape)
    step = np.where(v > 0, g / np.sqrt(np.where(v > 0, v, 1.0)), 0.0)
    kept = state.get("m", np.zeros_like(p))
    state["m"] = momentum * kept - rate * (1 - momentum) * step
    return p + state["m"]


def expected(shapes, grads, rate, momentum=0.9, initial=0.0, clip=np.inf, decay=0.0):
    values = [np.float64(v.numpy()) for v in models.variables(shapes, "float64")]
    states = [{} for _ in values]
    for step in grads:
        for i, grad in enumerate(step):
            g = np.clip(np.float64(models.dense(grad).numpy()), -clip, clip)
            p = values[i] * (1 - rate * decay)
            values[i] = formula(p, states[i], g, rate, momentum, initial)
    return values, states


@both_ways
@pytest.mark.parametrize(
    ("arguments", "reference"),
    [
        ({}, {}),
        ({"momentum": 0.0, "clipvalue": 0.5}, {"momentum": 0.0, "clip": 0.5}),
        (
            {"initial_accumulator_value": 0.5, "weight_decay": 0.2, "momentum": 0.5},
            {"initial": 0.5, "decay": 0.2, "momentum": 0.5},
        ),
    ],
    ids=["plain", "without momentum", "tuned"],
)
def test_the_formula(arguments, reference, graph):
    for dtype, rtol in (("float64", 1e-12), ("float32", 2e-6)):
        optimizer = tf_optim.SM3(0.125, **arguments)
        var_list = models.variables(SHAPES, dtype)
        grads = models.gradients(12, SHAPES, dtype)
        models.train(optimizer, var_list, grads, graph)
        values, states = expected(SHAPES, grads, 0.125, **reference)
        for mine, wanted in zip(var_list, values, strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=10 * rtol, atol=rtol)
        for i, state in enumerate(states):
            rows, *others = state["sums"]
            received = np.reshape(optimizer._row_accumulators[i], -1)
            np.testing.assert_allclose(received, rows, rtol=rtol)
            received = np.reshape(optimizer._column_accumulators[i], -1)
            wanted = np.concatenate([*others, []])
            np.testing.assert_allclose(received, wanted, rtol=rtol)


def sparse_steps(dtype="float32"):
    rng = np.random.default_rng(0)
    shapes = ((7, 5), (7,), (7, 2, 3))
    steps = [
        [
            models.slices(ids, rng.normal(size=(3, *s[1:])).astype(dtype), 7)
            for s in shapes
        ]
        for ids in (*IDS, *IDS)
    ]
    return shapes, steps


@both_ways
@pytest.mark.parametrize("mode", ["lazy", "dense", "exact"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sparse_gradients(mode, momentum, graph):
    """Repeated ids are summed first. Without momentum lazy steps are the whole step."""
    shapes, steps = sparse_steps()
    var_list = models.variables(shapes)
    optimizer = tf_optim.SM3(0.1, momentum, sparse_update=mode)
    if mode == "exact":
        tf_optim.prepare(var_list[0])
        for step in steps:
            tf_optim.lookup(var_list[0], step[0].indices)
            models.train(optimizer, var_list, [step], graph)
        assert optimizer._tables.tables
        optimizer.catch_up()
    else:
        models.train(optimizer, var_list, steps, graph)
    wanted, states = expected(shapes, steps, 0.1, momentum)
    if mode == "lazy" and momentum:
        idle = [4, 5, 6]  # and the others' momentum has rested
        assert np.max(np.abs(var_list[0] - wanted[0])) > 1e-4
        wanted = [each[idle] for each in wanted]
        var_list = [each.numpy()[idle] for each in var_list]
    for mine, each in zip(var_list, wanted, strict=True):
        np.testing.assert_allclose(mine, each, rtol=1e-5, atol=1e-6)
    for i, state in enumerate(states):
        received = optimizer._row_accumulators[i]
        np.testing.assert_allclose(received, state["sums"][0], rtol=1e-6)


def test_a_momentum_that_is_a_variable_may_be_set_later():
    momentum = tf.Variable(0.0)
    optimizer, plain = tf_optim.SM3(0.1, momentum), tf_optim.SM3(0.1, 0.0)
    received, wanted = models.variables(SHAPES), models.variables(SHAPES)
    models.train(optimizer, received, models.gradients(2, SHAPES))
    models.train(plain, wanted, models.gradients(2, SHAPES))
    for mine, other in zip(received, wanted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)
    momentum.assign(0.9)
    models.train(optimizer, received, models.gradients(1, SHAPES))
    assert np.any(optimizer._momentums[0])
    plain.momentum = 0.9
    with pytest.raises(ValueError, match="`momentum` must be set before"):
        models.train(plain, wanted, models.gradients(1, SHAPES))


def test_errors_come_before_anything_changes():
    var = tf.Variable(np.ones((4, 3), np.float32), name="table")
    optimizer = tf_optim.SM3()
    wrong = models.slices([7], np.ones((1, 3), np.float32), 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 4\)"):
        optimizer.apply_gradients([(wrong, var)])
    np.testing.assert_array_equal(var, np.ones((4, 3)))
    assert not np.any(models.state(optimizer)[-1])
    assert int(optimizer.iterations) == 0
    for name, value, said in (
        ("momentum", 1.5, r"\[0, 1\]"),
        ("initial_accumulator_value", -0.1, ">= 0"),
    ):
        with pytest.raises(ValueError, match=said):
            tf_optim.SM3(**{name: value})


@pytest.mark.parametrize("is_sparse", [False, True])
def test_compiled_is_the_same(is_sparse):
    """XLA leaves ids out that no row has; so do the sums."""
    shapes, steps = sparse_steps()
    if not is_sparse:
        steps = [[models.dense(g) for g in step] for step in steps]
    results = []
    for jit in (False, True):
        var_list = models.variables(shapes)
        optimizer = tf_optim.SM3(0.1)
        optimizer.build(var_list)
        step = tf.function(optimizer.apply_gradients, jit_compile=jit)
        for grads in steps:
            if is_sparse and jit:
                grads = [
                    models.slices(
                        [*g.indices.numpy(), 7],
                        np.concatenate([g.values, 9.0 + g.values[:1]]),
                        7,
                    )
                    for g in grads
                ]
            step(list(zip(grads, var_list, strict=True)))
        results.append([*(v.numpy() for v in var_list), *models.state(optimizer)])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(plain, compiled, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("slot_dtype", ["float32", "bfloat16", "int8"])
def test_16_bits_restored_in_mid_training(slot_dtype, tmp_path):
    def made(seed):
        optimizer = tf_optim.SM3(0.1, slot_dtype=slot_dtype)
        start = np.random.default_rng(seed).normal(size=(64, 80))
        var = tf.Variable(start, dtype="bfloat16")
        optimizer.build([var])
        return optimizer, var, tf.train.Checkpoint(optimizer=optimizer, var=var)

    optimizer, var, saved = made(0)
    optimizer.apply_gradients([(tf.identity(var), var)])
    path = saved.write(str(tmp_path / "state"))
    other, copy, restored = made(1)
    restored.read(path).assert_consumed()
    before = np.float32(var)
    for each, of in ((optimizer, var), (other, copy)):
        each.apply_gradients([(tf.identity(of), of)])
    np.testing.assert_array_equal(np.float32(var), np.float32(copy))
    assert 0 < np.sum(np.square(np.float32(var))) < np.sum(np.square(before))
    config = optimizer.get_config()
    assert tf_optim.SM3.from_config(config).get_config() == config
    shapes = [tuple(v.shape) for v in optimizer.variables]
    assert (64,) in shapes and (80,) in shapes


def test_the_state_of_a_table_is_a_number_per_row_and_column():
    table = tf.Variable(np.zeros((100, 8), np.float32))
    optimizer = tf_optim.SM3(0.1, momentum=0.0)
    optimizer.build([table])
    (line,) = tf_optim.memory_report(optimizer).lines
    assert sum(size for *_, size in line.slots) == 4 * (100 + 8)
