"""Adafactor against Keras' own, and against its formula in float64."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, both_ways, keras_3_only

pytestmark = both_flavours

SHAPES = ((7, 5), (5,), (3, 2, 4), (), (1, 6))
STOCK = tf.keras.optimizers.Adafactor
DEFAULTS = {
    "beta_2_decay": -0.8,
    "epsilon_1": 1e-30,
    "epsilon_2": 1e-3,
    "clip_threshold": 1.0,
}


def formula(p, state, g, hyper, learning_rate, t):
    """Shazeer and Stern, 2018, algorithms 4 and 5, the length as Keras bounds it."""

    def moved(name, square):
        b = 1 - t ** hyper["beta_2_decay"]
        state[name] = b * state.get(name, 0.0) + (1 - b) * (square + hyper["epsilon_1"])
        return state[name]

    def rms(x):
        return np.sqrt(np.mean(x**2))

    if p.ndim < 2:
        v = moved("v", g**2)
    else:
        r, c = moved("r", np.mean(g**2, -1)), moved("c", np.mean(g**2, -2))
        v = (r / np.mean(r, -1, keepdims=True))[..., None] * c[..., None, :]
    u = g / np.sqrt(v)
    length = max(hyper["epsilon_2"], rms(p)) * min(learning_rate, 1 / np.sqrt(t))
    return p - length * u / max(1.0, rms(u) / hyper["clip_threshold"])


def expected(steps, dtype, learning_rate, weight_decay=0.0, clip=np.inf, **hyper):
    values = [np.float64(v.numpy()) for v in models.variables(SHAPES, dtype)]
    states = [{} for _ in values]
    for t, grads in enumerate(models.gradients(steps, SHAPES, dtype), 1):
        for i, grad in enumerate(grads):
            g = np.clip(np.float64(grad.numpy()), -clip, clip)
            p = values[i] * (1 - learning_rate * weight_decay)
            values[i] = formula(p, states[i], g, DEFAULTS | hyper, learning_rate, t)
    return values


def variables(dtype="float32", seed=0):
    """Keras' own, after whose names stock's calls its means."""
    var_list = models.variables(SHAPES, dtype, seed)
    if not hasattr(tf.keras, "ops"):
        return var_list
    named = [(v.numpy(), v.name.partition(":")[0]) for v in var_list]
    return [tf.keras.Variable(v, dtype=dtype, name=name) for v, name in named]


def trained(optimizer, steps, graph=False, dtype="float32"):
    var_list = variables(dtype)
    models.train(optimizer, var_list, models.gradients(steps, SHAPES, dtype), graph)
    return var_list


def assert_close(received, wanted, rtol):
    for mine, other in zip(received, wanted, strict=True):
        mine, other = np.float64(mine), np.float64(other)
        assert np.isfinite(other).all()
        largest = np.max(np.abs(other))
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=rtol * largest)


@both_ways
@pytest.mark.parametrize(
    ("arguments", "common"),
    [
        ({}, {}),
        ({"epsilon_2": 2.0, "clip_threshold": 0.3, "beta_2_decay": -0.5}, {}),
        ({"epsilon_1": 0.1}, {"weight_decay": 0.2, "clipvalue": 0.5}),
    ],
    ids=["plain", "tuned", "tail"],
)
def test_the_formula(arguments, common, graph):
    tail = {"weight_decay": common.get("weight_decay", 0.0)}
    tail["clip"] = common.get("clipvalue", np.inf)
    for dtype, rtol in (("float64", 1e-12), ("float32", 2e-6)):
        optimizer = tf_optim.Adafactor(0.25, **arguments, **common)
        received = trained(optimizer, 12, graph, dtype)
        wanted = expected(12, dtype, 0.25, **tail, **arguments)
        assert_close(received, wanted, rtol)


@pytest.mark.parametrize(
    "arguments",
    [
        {"clip_threshold": 0.5, "relative_step": False, "weight_decay": 0.1},
        {"global_clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.9},
    ],
    ids=str,
)
def test_100_steps_are_keras(arguments):
    theirs = trained(STOCK(0.05, **arguments), 100, graph=True)
    received = trained(tf_optim.Adafactor(0.05, **arguments), 100, graph=True)
    for new, start in zip(theirs, variables(), strict=True):
        assert np.max(np.abs(new.numpy() - start.numpy())) > 0.05
    assert_close(received, theirs, 1e-5)


@pytest.mark.parametrize("first", [STOCK, tf_optim.Adafactor])
def test_checkpoints_are_keras(first, tmp_path):
    second = STOCK if first is not STOCK else tf_optim.Adafactor
    grads = models.gradients(12, SHAPES)
    var_list, optimizer = variables(), first(0.05, name="a")
    models.train(optimizer, var_list, grads[:6])
    saved = tf.train.Checkpoint(optimizer=optimizer, var_list=var_list)
    path = saved.write(str(tmp_path / "state"))
    new_list, new = variables(seed=9), second(0.3, name="a")
    new.build(new_list)
    restored = tf.train.Checkpoint(optimizer=new, var_list=new_list)
    restored.read(path).assert_consumed()
    shapes = [[v.shape for v in each.variables] for each in (optimizer, new)]
    assert shapes[0] == shapes[1]
    models.train(optimizer, var_list, grads[6:])
    models.train(new, new_list, grads[6:])
    assert_close(new_list, var_list, 1e-5)


def test_it_is_fused_and_back():
    grads = models.gradients(8, SHAPES)
    stock, var_list = STOCK(0.05, epsilon_2=0.1), variables()
    models.train(stock, var_list, grads[:4])
    config = tf_optim.fuse(stock).get_config()
    assert config["epsilon_2"] == 0.1
    assert tf_optim.Adafactor.from_config(config).get_config() == config
    fused, saved = tf_optim.fuse(stock), [v.numpy() for v in var_list]
    assert type(fused) is tf_optim.Adafactor
    models.train(fused, var_list, grads[4:])
    received = [v.numpy() for v in var_list]
    for variable, value in zip(var_list, saved, strict=True):
        variable.assign(value)
    models.train(stock, var_list, grads[4:])
    assert_close(received, var_list, 1e-5)
    assert type(tf_optim.unfuse(fused)) is STOCK


@both_ways
def test_repeated_ids_are_summed(graph):
    ids, rows = [3, 1, 3, 0], np.float32(np.random.default_rng(0).normal(size=(4, 5)))
    whole = np.zeros((7, 5), np.float32)
    np.add.at(whole, ids, rows)
    received = tf_optim.Adafactor(0.1, sparse_update="dense")
    wanted = tf_optim.Adafactor(0.1)
    tables = [models.variables(SHAPES[:1])[0] for _ in range(2)]
    models.train(received, tables[:1], [[models.slices(ids, rows, 7)]] * 3, graph)
    models.train(wanted, tables[1:], [[tf.constant(whole)]] * 3, graph)
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-6)
    untouched = models.variables(SHAPES[:1])[0].numpy()[[2, 4, 5, 6]]
    np.testing.assert_array_equal(tables[0].numpy()[[2, 4, 5, 6]], untouched)


def test_rows_without_elements():
    table = tf.Variable(tf.zeros([6, 0]))
    optimizer = tf_optim.Adafactor(0.1, sparse_update="dense")
    optimizer.apply_gradients([(models.slices([1], tf.zeros([1, 0]), 6), table)])
    assert int(optimizer.iterations) == 1


@both_ways
def test_a_table_without_rows_takes_its_step(graph):
    """A division by 0 in TensorFlow's graph optimizer ended the process."""
    empty, other = tf.Variable(tf.ones([0, 8])), tf.Variable([[1.0, 1.0]])
    optimizer = tf_optim.Adafactor(0.1, sparse_update="dense")
    optimizer.build([empty, other])

    def step():
        slices = models.slices(np.zeros(0, np.int64), np.ones((0, 8), np.float32), 0)
        optimizer.apply_gradients([(slices, empty)])
        optimizer.apply_gradients([(slices, empty), (tf.ones([1, 2]), other)])

    (tf.function(step) if graph else step)()
    assert int(optimizer.iterations) == 2 and np.all(other.numpy() < 1)

    def wrong():
        slices = models.slices([3], np.ones((1, 8), np.float32), 0)
        optimizer.apply_gradients([(slices, empty)])

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 0\)"):
        (tf.function(wrong) if graph else wrong)()
    assert int(optimizer.iterations) == 2


def test_what_it_cannot_do_is_an_error_before_anything_changes():
    var = tf.Variable(np.ones((4, 3), np.float32), name="table")
    other = tf.Variable(np.ones((4, 3), np.float32))
    slices = models.slices([1], np.ones((1, 3), np.float32), 4)
    optimizer = tf_optim.Adafactor()
    pairs = [(tf.ones_like(other), other), (slices, var)]
    with pytest.raises(ValueError, match='sparse_update="dense".*\'table'):
        optimizer.apply_gradients(pairs)
    optimizer = tf_optim.Adafactor(sparse_update="dense")
    wrong = models.slices([7], np.ones((1, 3), np.float32), 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 4\)"):
        optimizer.apply_gradients([(tf.ones_like(other), other), (wrong, var)])
    for each in (var, other):
        np.testing.assert_array_equal(each, np.ones((4, 3)))
    assert int(optimizer.iterations) == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"beta_2_decay": 0.5}, "<= 0"),
        ({"epsilon_1": -1.0}, ">= 0"),
        ({"epsilon_2": float("nan")}, ">= 0"),
        ({"clip_threshold": 0.0}, "> 0"),
        ({"sparse_update": "exact"}, "'lazy' or 'dense'"),
        ({"slot_dtype": "int8"}, "must be float32"),
    ],
    ids=str,
)
def test_wrong_arguments(wrong, said):
    with pytest.raises(ValueError) as error:
        tf_optim.Adafactor(**wrong)
    assert said in str(error.value)


def test_16_bits_and_xla(dtype="bfloat16"):
    optimizer = tf_optim.Adafactor(0.1, weight_decay=0.1)
    start = np.random.default_rng(0).normal(size=(6, 4))
    var, vector = tf.Variable(start, dtype=dtype), tf.Variable(start[0], dtype=dtype)
    double = tf_optim.Adafactor(0.1, weight_decay=0.1)
    wanted = [tf.Variable(np.float64(v.numpy())) for v in (var, vector)]

    @tf.function(jit_compile=True)
    def step(optimizer, var_list):
        optimizer.apply_gradients([(tf.identity(v), v) for v in var_list])

    optimizer.build([var, vector])
    double.build(wanted)
    assert all(v.dtype != dtype for v in optimizer.variables)
    for _ in range(5):
        step(optimizer, [var, vector])
        step(double, wanted)
    for mine, other in zip((var, vector), wanted, strict=True):
        assert np.max(np.abs(other.numpy() - start)) > 0.05 or other.shape.rank < 2
        np.testing.assert_allclose(np.float64(mine), other, rtol=0.05, atol=0.02)


def test_multipliers_and_exclusions():
    optimizer = tf_optim.Adafactor(
        0.1,
        weight_decay=0.5,
        exclude_from_weight_decay=["v0"],
        learning_rate_multipliers={"v0": 0.5, "v2": 0.0},
    )
    plain = tf_optim.Adafactor(0.1)
    start = variables()
    received, wanted = trained(optimizer, 1), trained(plain, 1)
    moved = [b.numpy() - a.numpy() for a, b in zip(start, received, strict=True)]
    whole = [b.numpy() - a.numpy() for a, b in zip(start, wanted, strict=True)]
    np.testing.assert_allclose(moved[0], 0.5 * whole[0], rtol=1e-5, atol=1e-6)
    assert not moved[2].any() and np.max(np.abs(moved[1] - whole[1])) > 0.01


@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize("rate", [-0.01, 0.0, np.inf, np.nan])
def test_any_learning_rate_does_what_it_does_in_stock(rate, decay):
    results = []
    for module in (tf_optim, tf.keras.optimizers):
        var = tf.Variable([[0.5, 1.0], [2.0, -1.0]], name="v")
        optimizer = module.Adafactor(rate, weight_decay=decay)
        optimizer.build([var])
        optimizer.apply_gradients([(tf.constant([[1.0, 2.0], [0.3, -0.4]]), var)])
        results.append(var.numpy())
    np.testing.assert_allclose(*results, rtol=1e-5)


@keras_3_only
def test_a_model_trains_under_xla_and_is_saved(tmp_path):
    model = models.recommender()
    optimizer = tf_optim.Adafactor(1.0, sparse_update="dense")
    models.compiled(model, optimizer, jit_compile=True)
    ids, y = models.recommender_data(unique=False)
    history = model.fit(ids, y, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]
    model.save(tmp_path / "m.keras")
    loaded = tf.keras.models.load_model(tmp_path / "m.keras")
    for mine, other in zip(
        loaded.optimizer.variables, optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(mine, other)
