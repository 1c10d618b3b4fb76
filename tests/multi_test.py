"""`MultiOptimizer`: each optimizer takes its own step on its own variables."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import a_few, both_flavours, both_ways, keras_3_only

pytestmark = both_flavours

ROWS = 8
SHAPES = ((ROWS, 3), (3,), (ROWS, 2), (2, 4))


def steps(count=4):
    """Lists of gradients: two sparse ones with repeated ids, and two dense ones."""
    rng = np.random.default_rng(3)
    made = []
    for _ in range(count):
        grads = [tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES]
        for i in (0, 2):
            ids = rng.integers(ROWS, size=5)
            values = rng.normal(size=(5, SHAPES[i][1])).astype("float32")
            grads[i] = models.slices(ids, values, ROWS)
        made.append(grads)
    return made


def assert_equal(left, right):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


@a_few
@both_ways
def test_the_steps_are_those_of_the_optimizers_alone(case, graph):
    variables, alone = models.variables(SHAPES), models.variables(SHAPES)
    options = [{}, {"sparse_update": "dense", "clipnorm": 0.1}]
    inner = [models.ours(case, **each) for each in options]
    several = tf_optim.MultiOptimizer([(inner[0], variables[:2]), (inner[1], None)])
    models.train(several, variables, steps(), graph)
    for part, each in zip((slice(0, 2), slice(2, 4)), options, strict=True):
        optimizer = models.ours(case, **each)
        models.train(optimizer, alone[part], [g[part] for g in steps()], graph)
        assert_equal(variables[part], alone[part])
    assert [models.number(each.iterations) for each in (several, *inner)] == [4] * 3


def takes(which):
    """Which of three variables the first of two optimizers takes."""
    variables = models.variables(((2,), (2,), (2,)))
    which = which(variables) if callable(which) else which
    several = tf_optim.MultiOptimizer(
        [(tf_optim.SGD(1.0), which), (tf_optim.SGD(0.0), None)]
    )
    before = [v.numpy() for v in variables]
    several.apply_gradients([(tf.ones([2]), v) for v in variables])
    changed = [
        bool((v.numpy() != b).all()) for v, b in zip(variables, before, strict=True)
    ]
    return changed, several


CHOICES = {
    "pattern": "v[02]",
    "patterns": ["v0", "v2"],
    "numbers": [0, 2],
    "variables": lambda variables: variables[::2],
    "function": lambda _: lambda v: "v1" not in v.name,
}


@pytest.mark.parametrize("which", CHOICES)
def test_how_variables_are_chosen(which):
    changed, several = takes(CHOICES[which])
    assert changed == [True, False, True]
    config = several.get_config()
    again = tf_optim.MultiOptimizer.from_config(config)
    variables = models.variables(((2,), (2,), (2,)))
    again.build(variables)
    assert len(again.optimizers) == 2
    again.apply_gradients([(tf.ones([2]), v) for v in variables])
    expected = [v - 1.0 for v in models.variables(((2,), (2,), (2,)))[::2]]
    assert_equal(variables[::2], expected)
    assert again.get_config() == config


def test_an_earlier_pair_comes_first_and_layers_are_their_variables():
    model = models.recommender()
    table = model.get_layer("table")
    head = [layer for layer in model.layers if layer.weights and layer is not table]
    several = tf_optim.MultiOptimizer(
        [(tf_optim.SGD(0.0), table), (tf_optim.SGD(0.1), [table, *head])]
    )
    ids, targets = models.recommender_data()
    before = model.get_weights()
    models.compiled(model, several).fit(ids, targets, verbose=0)
    changed = [
        not np.array_equal(*pair)
        for pair in zip(model.get_weights(), before, strict=True)
    ]
    assert changed == [False, True, True]


def two(**arguments):
    return tf_optim.MultiOptimizer(
        [(tf_optim.Adam(0.1, **arguments), "v0"), (tf_optim.Adagrad(0.1), None)]
    )


WRONG = {
    "shape": (tf.ones([3]), "must have shape"),
    "index": (
        models.slices([0, 9], np.ones([2, 2], "float32"), 4),
        r"must be in \[0, 4",
    ),
    "negative": (models.slices([-1], np.ones([1, 2], "float32"), 4), "must be in"),
}


@pytest.mark.parametrize("wrong", WRONG)
@both_ways
def test_an_error_in_the_last_part_changes_nothing(wrong, graph):
    variables = models.variables(((4, 2), (4, 2)))
    several = two()
    several.build(variables)
    good = models.slices([1], np.ones([1, 2], "float32"), 4)
    gradient, message = WRONG[wrong]
    before = models.everything(variables, several)

    def step():
        several.apply_gradients(zip([good, gradient], variables, strict=True))

    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=message):
        (tf.function(step) if graph else step)()
    assert_equal(models.everything(variables, several), before)


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([], "at least one optimizer"),
        ([tf_optim.SGD()], "must be a list of pairs"),
        (3, "must be a list of pairs.*Received: 3"),
        ([("sgd", None)], "must be `tf.keras` optimizers"),
        ([(tf_optim.MultiOptimizer([(tf_optim.SGD(), None)]), None)], "wrap no other"),
        ([(tf_optim.LossScaleOptimizer(tf_optim.SGD()), None)], "wrap no other"),
        ([(tf_optim.SGD(), "(")], "regular expressions"),
        ([(tf_optim.SGD(), 3.0)], "must be None, a function"),
        ([(tf_optim.SGD(), [3.0])], "must be None, a function"),
    ],
)
def test_what_cannot_be_several_optimizers(pairs, message):
    with pytest.raises(ValueError, match=message):
        tf_optim.MultiOptimizer(pairs)


def test_the_same_optimizer_twice():
    one = tf_optim.SGD()
    with pytest.raises(ValueError, match="each once"):
        tf_optim.MultiOptimizer([(one, "a"), (one, None)])


def test_variables_that_none_takes_and_optimizers_that_take_none():
    variables = models.variables(((2,), (2,)))
    with pytest.raises(ValueError, match="'v1.*which none takes"):
        tf_optim.MultiOptimizer([(tf_optim.SGD(), "v0")]).build(variables)
    idle = tf_optim.MultiOptimizer([(tf_optim.SGD(), None), (tf_optim.Adam(), "v0")])
    with pytest.warns(UserWarning, match="No variable is taken by '.*dam"):
        idle.build(variables)
    other = tf.Variable(1.0)
    with pytest.raises((ValueError, KeyError), match="was built with"):
        idle.apply_gradients([(1.0, other)])


def test_it_has_no_learning_rate_of_its_own():
    several = two()
    with pytest.raises(AttributeError, match="each of its `optimizers`"):
        _ = several.learning_rate
    with pytest.raises(AttributeError, match="set that of its `optimizers`"):
        several.learning_rate = 0.1
    several.optimizers[0].learning_rate = 0.5
    assert models.number(several.optimizers[0].learning_rate) == 0.5


@keras_3_only
def test_one_loss_scale_for_all():
    with pytest.raises(ValueError, match="same `loss_scale_factor`"):
        two(loss_scale_factor=4.0)
    variables = models.variables(((2,), (2,)))
    expected = [v - 0.5 for v in models.variables(((2,), (2,)))]
    pairs = [
        (tf_optim.SGD(0.5, loss_scale_factor=4.0), which) for which in ("v0", None)
    ]
    several = tf_optim.MultiOptimizer(pairs)
    several.minimize(lambda: tf.add_n([tf.reduce_sum(v) for v in variables]), variables)
    assert_equal(variables, expected)


def resumed(how, model, path):
    """A model and its optimizer from what `how` has kept of another."""
    if how == "keras":
        model.save(f"{path}/model.keras")
        return tf.keras.models.load_model(f"{path}/model.keras")
    again = recommender()
    if how == "checkpoint":
        saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        saved = saved.save(f"{path}/ckpt")
        again.optimizer.build(again.trainable_variables)
        read = tf.train.Checkpoint(model=again, optimizer=again.optimizer)
        read.restore(saved).assert_consumed()
    else:
        again.set_weights(model.get_weights())
        again.optimizer.build(again.trainable_variables)
        again.optimizer.set_weights(model.optimizer.get_weights())
    return again


def recommender():
    several = tf_optim.MultiOptimizer(
        [
            (tf_optim.RowWiseAdagrad(0.1), "table|embedding"),
            (tf_optim.Adam(0.01, slot_dtype="bfloat16", amsgrad=True), None),
        ]
    )
    return models.compiled(models.recommender(), several)


@pytest.mark.parametrize("how", ["keras", "checkpoint", "set_weights"])
def test_resumed_is_uninterrupted(how, tmp_path):
    ids, targets = models.recommender_data(unique=False)
    model = recommender()
    model.fit(ids, targets, 8, 2, shuffle=False, verbose=0)
    again = resumed(how, model, tmp_path)
    kinds = [type(each) for each in again.optimizer.optimizers]
    assert kinds == [tf_optim.RowWiseAdagrad, tf_optim.Adam]
    for each in (model, again):
        each.fit(ids, targets, 8, 2, shuffle=False, verbose=0)
    assert_equal(again.get_weights(), model.get_weights())
    assert_equal(again.optimizer.get_weights(), model.optimizer.get_weights())


@pytest.mark.parametrize(
    "make",
    [tf.keras.mixed_precision.LossScaleOptimizer, tf_optim.LossScaleOptimizer],
    ids=["stock", "ours"],
)
def test_inside_a_loss_scale_optimizer(make):
    ids, targets = models.recommender_data(unique=False)
    plain = recommender()
    scaled = recommender()
    wrapper = make(scaled.optimizer, initial_scale=16.0)
    models.compiled(scaled, wrapper)
    for each in (plain, scaled):
        each.fit(ids, targets, 8, 2, shuffle=False, verbose=0)
    for left, right in zip(scaled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def layers_for(optimizers):
    """A model of two layers, and an optimizer of each."""
    tf.keras.utils.set_random_seed(0)
    first = tf.keras.layers.Dense(3, name="first")
    second = tf.keras.layers.Dense(1, name="second")
    model = tf.keras.Sequential([first, second])
    model.build((None, 2))
    slow, fast = optimizers
    several = tf_optim.MultiOptimizer([(slow, [first]), (fast, None)])
    return model, first, second, several


@pytest.mark.parametrize("frozen_when_built", [False, True])
def test_whose_a_variable_is_does_not_depend_on_what_is_frozen(
    frozen_when_built, tmp_path
):
    optimizers = tf_optim.SGD(0.0), tf_optim.Adam(0.1)
    model, first, second, several = layers_for(optimizers)
    first.trainable = not frozen_when_built
    models.compiled(model, several).fit(np.ones([8, 2]), np.ones([8, 1]), verbose=0)
    first.trainable = frozen_when_built
    config = several.get_config()
    again = tf_optim.MultiOptimizer.from_config(config)
    again.build(model.trainable_variables)
    slow, fast = again.optimizers
    for layer, owner in ((first, slow), (second, fast)):
        for variable in layer.trainable_variables:
            assert again.optimizer_of(variable) is owner
    assert again.get_config() == config
    if not frozen_when_built and not flavours.LEGACY:
        models.compiled(model, several)
        model.save(tmp_path / "model.keras")
        loaded = tf.keras.models.load_model(tmp_path / "model.keras")
        before = loaded.get_weights()
        loaded.fit(np.ones([8, 2]), np.ones([8, 1]), verbose=0)
        kernel = 2
        assert np.any(loaded.get_weights()[kernel] != before[kernel])


def test_what_a_function_has_chosen_is_of_as_many_variables():
    variables = models.variables(((2,), (2,), (2,)))
    several = tf_optim.MultiOptimizer(
        [(tf_optim.SGD(0.1), lambda v: True), (tf_optim.SGD(0.1), None)]
    )
    several.build(variables)
    again = tf_optim.MultiOptimizer.from_config(several.get_config())
    with pytest.raises(ValueError, match="as many variables, 3.*Received: 2"):
        again.build(variables[:2])


def test_a_module_of_tensorflow_is_its_variables():
    class Tower(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable([1.0])

    tower, other = Tower(), tf.Variable([1.0])
    several = tf_optim.MultiOptimizer(
        [(tf_optim.SGD(0.0), [tower]), (tf_optim.SGD(1.0), None)]
    )
    several.apply_gradients([(tf.ones([1]), v) for v in (tower.kernel, other)])
    assert_equal([tower.kernel, other], [[1.0], [0.0]])


def test_no_epoch_is_left():
    _, _, _, several = layers_for((tf_optim.SGD(0.1), tf_optim.SGD(0.1)))
    model = models.compiled(models.classifier(), several)
    model.fit(*models.classifier_data(), epochs=2, initial_epoch=2, verbose=0)
    assert not several.built


def test_variables_are_excluded_from_weight_decay_in_all():
    bias = tf.Variable([1.0], name="bias")
    several = tf_optim.MultiOptimizer([(tf_optim.AdamW(0.1, weight_decay=0.5), None)])
    several.exclude_from_weight_decay(var_names=["bias"])
    several.apply_gradients([(tf.zeros([1]), bias)])
    assert_equal([bias], [[1.0]])


def test_averages_are_those_of_the_variables():
    variables = models.variables(((2,), (2,)))
    several = two(use_ema=True, ema_momentum=0.5)
    models.train(several, variables, models.gradients(3, ((2,), (2,))))
    average = [
        v.numpy()
        for v in several.optimizers[0].variables
        if "average" in v.name.lower()
    ]
    other = variables[1].numpy()
    several.finalize_variable_values(variables)
    assert_equal([variables[0].numpy()], average)
    assert_equal([variables[1].numpy()], [other])


def test_stock_optimizers_take_part():
    variables, alone = models.variables(((2,), (2,))), models.variables(((2,), (2,)))
    stock = tf.keras.optimizers.Adam(0.1)
    several = tf_optim.MultiOptimizer([(stock, "v0"), (tf_optim.SGD(0.1), None)])
    grads = models.gradients(3, ((2,), (2,)))
    models.train(several, variables, grads)
    models.train(tf.keras.optimizers.Adam(0.1), alone[:1], [g[:1] for g in grads])
    models.train(tf_optim.SGD(0.1), alone[1:], [g[1:] for g in grads])
    assert_equal(variables, alone)
    assert several.built


def test_reports_speak_of_each_optimizer():
    model = recommender()
    table, *rest = tf_optim.explain(model).rows  # before it is built
    assert (table.kernel, table.op) == ("sparse lazy", 1)
    assert {row.op for row in rest} == {2}
    assert tf_optim.explain(model).ops_per_step == 2
    model.optimizer.build(model.trainable_variables)
    assert tf_optim.explain(model.optimizer).ops_per_step == 2
    wrapped = tf_optim.LossScaleOptimizer(model.optimizer)
    assert list(tf_optim.memory_report(wrapped)) == list(
        tf_optim.memory_report(model.optimizer)
    )
    report = tf_optim.memory_report(model.optimizer)
    (row,) = (line for line in report if line.shape == (50, 4))
    assert row.slots == (("accumulator", "float32", 50 * 4),)
    assert len(report.lines) == 3
