"""`step_statistics`: the numbers of a step, from the pass that clips by norm."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, flavours, models, reference_norms
from tests.marks import a_few, both_flavours, both_ways, keras_3_only
from tf_optim import keras_private

pytestmark = both_flavours

ROWS = 9
IDS = (2, 5, 2, 7)
MODES = ("lazy", "dense", "exact")
CLIPS = ({}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 0.1})


def gradients(scale=1.0):
    rng = np.random.default_rng(0)
    rows, bias = rng.normal(size=(4, 3)), rng.normal(size=3) * 0.1
    return rows * scale, bias * scale


def stepping(case, graph=False, jit=False, **options):
    """A table and a bias, and a function that takes a step."""
    var_list = models.variables(((ROWS, 3), (3,)))
    optimizer = models.ours(case, **options)
    optimizer.step_statistics = True
    optimizer.build(var_list)

    def step(rows, bias):
        grads = models.slices(IDS, rows, ROWS), bias
        optimizer.apply_gradients(zip(grads, var_list, strict=True))

    if graph or jit:
        step = tf.function(step, jit_compile=jit)
    return optimizer, lambda *g: step(*(tf.constant(x, tf.float32) for x in g))


def expected(rows, bias, clip, moved):
    squares = [reference_norms.of_rows(IDS, rows), reference_norms.of_dense(bias)]
    clipped = 0.0
    if "clipnorm" in clip:
        clipped = np.mean([square > 1.0 for square in squares])
    elif "global_clipnorm" in clip:
        clipped = float(sum(squares) > 1.0)
    elif "clipvalue" in clip:
        clipped = np.nan
    return {
        "gradient_norm": np.sqrt(sum(squares)),
        "update_norm": moved,
        "non_finite": 0,
        "rows_touched": 3,
        "clipped": clipped,
    }


def assert_numbers(optimizer, numbers):
    found = optimizer.step_statistics.numbers()
    assert found.keys() == numbers.keys()
    for name, number in numbers.items():
        np.testing.assert_allclose(found[name], number, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("how", ["eager", "function", "jit"])
@pytest.mark.parametrize("clip", CLIPS, ids=str)
@a_few
def test_numbers_are_those_of_the_last_step(case, clip, how):
    optimizer, step = stepping(case, how == "function", how == "jit", **clip)
    for scale in (10.0, 1.0):
        grads = gradients(scale)
        before = read(optimizer)
        step(*grads)
        moved = np.nan if how == "jit" else distance(before, read(optimizer))
        assert_numbers(optimizer, expected(*grads, clip, moved))


def read(optimizer):
    return [v.numpy().astype("float64") for v in keras_private.built_with(optimizer)]


def distance(before, after):
    squares = [np.sum((b - a) ** 2) for a, b in zip(before, after, strict=True)]
    return np.sqrt(sum(squares))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *itertools.product(["SGD", "Adam", "RowWiseAdagrad"], MODES),
        *itertools.product(["Lamb", "NovoGrad", "Prodigy"], MODES[:2]),
        ("Adafactor", "dense"),
    ],
)
def test_the_norm_of_an_update_is_how_far_variables_move(name, mode, dtype):
    """Of many chunks, with weight decay and an average; whatever the storage is."""
    rng = np.random.default_rng(1)
    var_list = models.variables(((300, 70), (9000,), ()), dtype)
    if mode == "exact":
        tf_optim.prepare(var_list[0])
    options = {"weight_decay": 0.1, "use_ema": True, "sparse_update": mode}
    if name in ("Adafactor", "NovoGrad"):
        del options["use_ema"]
    optimizer = getattr(tf_optim, name)(0.01, **options)
    optimizer.step_statistics = True
    optimizer.build(var_list)
    for _ in range(2):
        ids = rng.integers(0, 300, 200)
        rows = tf.constant(rng.normal(size=(200, 70)), dtype)
        grads = [tf.constant(rng.normal(size=v.shape), dtype) for v in var_list[1:]]
        if mode == "exact":
            tf_optim.lookup(var_list[0], ids)
        before = read(optimizer)
        sparse = models.slices(ids, rows, 300)
        optimizer.apply_gradients(zip((sparse, *grads), var_list, strict=True))
        moved = optimizer.step_statistics.numbers()["update_norm"]
        after = read(optimizer)
        if mode == "exact":  # other rows move when they are read
            others = np.setdiff1d(np.arange(300), ids)
            after[0][others] = before[0][others]
        # Changes are rounded to the computation type before they are squared.
        np.testing.assert_allclose(moved, distance(before, after), rtol=1e-6)


def test_a_variable_that_stands_twice_moves_twice():
    variable = tf.Variable(tf.ones([5]))
    optimizer = tf_optim.SGD(1.0)
    optimizer.step_statistics = True
    optimizer.apply_gradients([(3.0 * tf.ones([5]), variable)] * 2)
    moved = optimizer.step_statistics.numbers()["update_norm"]
    np.testing.assert_allclose(moved, np.sqrt(2 * 5 * 9))


@a_few
def test_nothing_is_kept_unless_asked_for(case):
    optimizer = models.ours(case)
    assert optimizer.step_statistics is None
    optimizer.step_statistics = True
    optimizer.step_statistics = False
    assert optimizer.step_statistics is None
    with pytest.raises(ValueError, match="must be set to True or False"):
        optimizer.step_statistics = 1


@a_few
def test_variables_and_checkpoints_stay_what_they_are(case, tmp_path):
    optimizer, step = stepping(case)
    plain = models.ours(case)
    plain.build(models.variables(((ROWS, 3), (3,))))
    step(*gradients())
    assert len(optimizer.variables) == len(plain.variables)
    path = tf.train.Checkpoint(o=optimizer).write(str(tmp_path / "state"))
    tf.train.Checkpoint(o=plain).read(path).assert_consumed()


def test_gradients_are_read_once_with_clipping():
    optimizer, _ = stepping(cases.A_FEW[0], global_clipnorm=1.0)
    variable = tf.Variable([1.0, 2.0])
    optimizer = tf_optim.SGD(0.1, global_clipnorm=1.0)
    optimizer.step_statistics = True
    optimizer.build([variable])

    @tf.function
    def step(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    graph = step.get_concrete_function(tf.ones([2])).graph
    ops = [op.type for op in graph.get_operations()]
    assert ops.count("TfOptim>GradientNorms") == 1


@both_ways
@a_few
def test_a_step_that_is_not_taken_says_why(case, graph):
    var_list = models.variables(((ROWS, 3), (3,)))
    inner = models.ours(case)
    inner.step_statistics = True
    optimizer = tf_optim.LossScaleOptimizer(inner, initial_scale=4.0)
    optimizer.build(var_list)

    def step(rows, bias):
        grads = models.slices(IDS, rows, ROWS), bias
        optimizer.apply_gradients(zip(grads, var_list, strict=True))

    step = tf.function(step) if graph else step
    rows, bias = (tf.constant(g, tf.float32) for g in gradients())
    scale = 1.0 if flavours.LEGACY else 4.0  # there they come divided
    before = read(inner)
    step(rows * scale, bias * scale)
    moved = distance(before, read(inner))
    assert_numbers(inner, expected(*gradients(), {}, moved))
    step(rows / np.array([[0.0, 1, 1]], np.float32), bias)
    assert inner.step_statistics.numbers()["non_finite"] == 3
    assert inner.step_statistics.numbers()["update_norm"] == 0


@keras_3_only
@a_few
def test_a_window_counts_as_its_mean(case):
    optimizer, step = stepping(case, gradient_accumulation_steps=2)
    step(*gradients(3.0))
    before = read(optimizer)
    step(*gradients(1.0))
    moved = distance(before, read(optimizer))
    assert_numbers(optimizer, expected(*gradients(2.0), {}, moved))


def events(folder):
    """(step, tag) -> number, of all files in a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
                assert value.metadata.plugin_data.plugin_name == "scalars"
    return found


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("update_freq", ["epoch", 3])
@a_few
def test_the_callback_writes_them(case, update_freq, wrapped, tmp_path):
    optimizer = models.ours(case, clipnorm=1.0)
    if wrapped:
        optimizer = tf_optim.LossScaleOptimizer(optimizer, initial_scale=16.0)
    model = models.compiled(models.classifier(), optimizer, "classes")
    x, y = models.classifier_data()
    model.fit(x, y, 16, 1, verbose=0)  # traced without them
    callback = tf_optim.StepStatisticsCallback(tmp_path / "logs", update_freq)
    before = int(optimizer.iterations)
    model.fit(x, y, 16, 2, verbose=0, callbacks=[callback])
    found = events(tmp_path / "logs")
    batches = (int(optimizer.iterations) - before) // 2
    steps = [batches, 2 * batches]
    if update_freq != "epoch":
        steps = range(update_freq, 2 * batches + 1, update_freq)
    assert {step for step, _ in found} == {before + step for step in steps}
    assert {tag for _, tag in found} == {
        f"step/{name}" for name in optimizer_numbers(optimizer)
    }
    assert all(n > 0 for (_, tag), n in found.items() if tag.endswith("_norm"))


def optimizer_numbers(optimizer):
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    assert len(optimizer.step_statistics.numbers()) == 5
    return optimizer.step_statistics.numbers()


def test_the_callback_writes_those_of_each_of_several(tmp_path):
    several = tf_optim.MultiOptimizer(
        [(tf_optim.SGD(0.1), "bias"), (tf_optim.Adam(0.1), None)]
    )
    model = models.compiled(models.classifier(), several, "classes")
    callback = tf_optim.StepStatisticsCallback(tmp_path)
    model.fit(*models.classifier_data(), verbose=0, callbacks=[callback])
    found = {tag for _, tag in events(tmp_path)}
    names = several.optimizers[0].step_statistics.numbers()
    assert found == {f"step/optimizer_{i}/{name}" for i in (0, 1) for name in names}


def test_the_callback_wants_one_of_ours():
    callback = tf_optim.StepStatisticsCallback("nowhere")
    model = models.classifier()
    model.compile(tf.keras.optimizers.SGD(), "mse")
    with pytest.raises(ValueError, match="must be one of tf_optim"):
        callback.set_model(model)
    with pytest.raises(ValueError, match="update_freq"):
        tf_optim.StepStatisticsCallback("nowhere", 0)
