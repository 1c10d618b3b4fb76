"""Our LossScaleOptimizer beside Keras' own: scales, counts, and what it takes over."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, flavours, models
from tests.marks import both_flavours, both_ways, keras_3_only

pytestmark = both_flavours

ROWS = 7
Stock = tf.keras.mixed_precision.LossScaleOptimizer


def adam():
    return next(case for case in cases.CASES if case.name == "Adam")


class Training:
    """A table and a bias, whose loss is not finite for some inputs."""

    def __init__(self, wrapper, jit=False, graph=True, **options):
        self.variables = models.variables(((ROWS, 3), (3,)))
        self.inner = models.ours(adam(), 0.1, **options)
        self.optimizer = wrapper(self.inner, initial_scale=8.0, dynamic_growth_steps=2)
        self.optimizer.build(self.variables)
        self.call = tf.function(self.step, jit_compile=jit) if graph else self.step

    def step(self, ids, factor):
        table, bias = self.variables
        with tf.GradientTape() as tape:
            rows = tf.square(tf.gather(table, ids)) * factor
            loss = tf.reduce_sum(rows) + tf.reduce_sum(tf.square(bias))
            if not flavours.LEGACY:
                loss = self.optimizer.scale_loss(loss)
        if flavours.LEGACY:
            self.optimizer.minimize(loss, self.variables, tape=tape)
        else:
            grads = tape.gradient(loss, self.variables)
            self.optimizer.apply(grads, self.variables)

    def state(self):
        name = "loss_scale" if flavours.LEGACY else "dynamic_scale"
        scale = float(getattr(self.optimizer, name))
        values = [v.numpy() for v in (*self.variables, *self.inner.variables)]
        return scale, int(self.optimizer.iterations), values


STEPS = (1.0, 2.0, np.inf, 0.5, 1.0, 3.0, np.nan, np.nan, 1.0)


def train(training, factors=STEPS):
    for i, factor in enumerate(factors):
        training.call(tf.constant([1, 4, 1, i % ROWS]), tf.constant(factor, tf.float32))
        yield training.state()


def assert_same(ours, stock, rtol=0.0):
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine[:2] == theirs[:2]
        for left, right in zip(mine[2], theirs[2], strict=True):
            np.testing.assert_allclose(left, right, rtol=rtol)


@both_ways
@pytest.mark.parametrize(
    "options", [{}, {"clipvalue": 0.3}, {"use_ema": True, "weight_decay": 0.1}], ids=str
)
def test_scales_and_steps_are_those_of_stock(graph, options):
    """Scales are powers of two: the bits are the same."""
    ours, stock = (
        train(Training(each, graph=graph, **options))
        for each in (tf_optim.LossScaleOptimizer, Stock)
    )
    assert_same(ours, stock)


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_norms_that_were_looked_at_clip(clip):
    ours, stock = (
        train(Training(each, **{clip: 0.5}))
        for each in (tf_optim.LossScaleOptimizer, Stock)
    )
    assert_same(ours, stock, rtol=1e-6)


def test_gradients_are_measured_once():
    training = Training(tf_optim.LossScaleOptimizer, global_clipnorm=0.5)
    arguments = tf.constant([1, 4]), tf.constant(1.0)
    graph = training.call.get_concrete_function(*arguments).graph
    graphs = [graph, *(each.graph for each in graph._functions.values())]
    ops = [op for each in graphs for op in each.get_operations()]
    assert [op.type for op in ops].count("TfOptim>GradientNorms") == 1
    looked_at = [op.inputs[0].shape.rank for op in ops if op.type == "IsFinite"]
    assert not any(looked_at)  # tf_keras looks at numbers


def test_the_same_when_compiled_by_xla():
    ours, plain = (
        train(Training(tf_optim.LossScaleOptimizer, jit)) for jit in (True, False)
    )
    assert_same(ours, plain, rtol=1e-5)


@keras_3_only
def test_accumulation_inside():
    ours, stock = (
        train(Training(each, gradient_accumulation_steps=2))
        for each in (tf_optim.LossScaleOptimizer, Stock)
    )
    assert_same(ours, stock, rtol=1e-6)


def test_around_an_optimizer_of_stock():
    ours, stock = (
        wrapper(tf.keras.optimizers.SGD(0.5), initial_scale=4.0)
        for wrapper in (tf_optim.LossScaleOptimizer, Stock)
    )
    for optimizer in (ours, stock):
        variable = tf.Variable([1.0, 2.0])
        for gradient in ([4.0, 8.0], [np.inf, 1.0], [1.0, 1.0]):
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        optimizer.result = variable.numpy()
    np.testing.assert_array_equal(ours.result, stock.result)


def test_a_subclass_with_a_step_of_its_own_keeps_it():
    calls = []

    class Mine(tf_optim.SGD):
        def apply(self, *args, **kwargs):
            calls.append(1)
            return super().apply(*args, **kwargs)

        def apply_gradients(self, *args, **kwargs):
            calls.append(1)
            return super().apply_gradients(*args, **kwargs)

    optimizer = tf_optim.LossScaleOptimizer(Mine(0.5), initial_scale=4.0)
    optimizer.apply_gradients([(tf.constant(4.0), tf.Variable(1.0))])
    assert calls == [1]


def test_configuration_comes_back():
    optimizer = tf_optim.LossScaleOptimizer(
        tf_optim.Adam(0.5, clipnorm=2.0), initial_scale=64.0, dynamic_growth_steps=9
    )
    config = tf.keras.optimizers.serialize(optimizer)
    again = tf.keras.optimizers.deserialize(config)
    assert type(again) is tf_optim.LossScaleOptimizer
    assert again.get_config() == optimizer.get_config()
    assert type(again.inner_optimizer) is tf_optim.Adam


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_is_saved_and_loaded(suffix, tmp_path):
    optimizer = tf_optim.LossScaleOptimizer(tf_optim.Adam(0.1, clipnorm=2.0))
    model = models.compiled(models.classifier(), optimizer, "classes")
    model.fit(*models.classifier_data(), verbose=0)
    model.save(tmp_path / f"model.{suffix}")
    loaded = tf.keras.models.load_model(tmp_path / f"model.{suffix}").optimizer
    assert type(loaded) is tf_optim.LossScaleOptimizer
    assert type(loaded.inner_optimizer) is tf_optim.Adam
    assert loaded.inner_optimizer.clipnorm == 2.0


def test_fuse_and_unfuse_take_the_wrapper_along():
    stock = Stock(tf.keras.optimizers.Adam(0.5), initial_scale=64.0)
    ours = tf_optim.fuse(stock)
    assert type(ours) is tf_optim.LossScaleOptimizer
    assert type(ours.inner_optimizer) is tf_optim.Adam
    again = tf_optim.unfuse(ours)
    assert type(again) is type(stock)
    assert type(again.inner_optimizer) is tf.keras.optimizers.Adam
    assert (ours.initial_scale, again.initial_scale) == (64.0, 64.0)


@both_ways
def test_averages_of_rows_over_steps_that_are_not_taken(graph):
    results = []
    for mode in ("dense", "lazy"):
        inner = tf_optim.SGD(0.5, use_ema=True, ema_momentum=0.5, sparse_update=mode)
        optimizer = tf_optim.LossScaleOptimizer(inner, initial_scale=4.0)
        (table,) = models.variables(((6, 3),))
        optimizer.build([table])

        def step(ids, factor, optimizer=optimizer, table=table):
            values = factor * tf.ones([2, 3])
            slices = tf.IndexedSlices(values, ids, tf.constant([6, 3]))
            optimizer.apply_gradients([(slices, table)])

        if graph:
            step = tf.function(step)
        for ids, factor in (
            ([0, 1], 1.0),
            ([2, 1], 2.0),
            ([0, 3], np.inf),
            ([4, 1], 3.0),
            ([0, 5], 1.0),
        ):
            step(tf.constant(ids), tf.constant(factor, tf.float32))
        means = inner._model_variables_moving_average
        results.append([np.array(v) for v in [table, *means]])
    for whole, by_rows in zip(*results, strict=True):
        np.testing.assert_allclose(by_rows, whole, rtol=1e-6)


@keras_3_only
def test_gradients_of_a_generator_and_none_at_all():
    plain, scale = tf.keras.Variable([1.0]), tf.keras.Variable(1.0)
    scale.overwrite_with_gradient = True
    optimizer = tf_optim.LossScaleOptimizer(tf_optim.SGD(0.5), initial_scale=1.0)
    optimizer.apply([], [])
    grads = [tf.ones([1]), tf.constant(2.0)]
    optimizer.apply(iter(grads), [plain, scale])
    np.testing.assert_array_equal(plain.numpy(), [0.5])
    assert float(scale.numpy()) == 2.0
