"""`averaging`: Lookahead and StochasticWeightAveraging beside their papers, in float64.

SGD with momentum from NumPy takes the steps; gradients depend on the variable, so
that a variable which was not set, or set too early, trains otherwise.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests.marks import both_flavours, keras_3_only
from tf_optim import keras_private

pytestmark = both_flavours
RATE, MOMENTUM = 1 / 16, 0.9  # a rate that float32 has
ROWS, WIDTH = 6, 3
LOOKAHEAD = tf_optim.Lookahead(sync_period=3, slow_step_size=0.25)
SWA = tf_optim.StochasticWeightAveraging(start_averaging=2, average_period=4)
both = pytest.mark.parametrize("averaging", [LOOKAHEAD, SWA], ids=repr)


def start():
    return np.random.default_rng(3).normal(size=(ROWS, WIDTH))


def ids_of(step):
    return np.array([step % 4, step % 4, 1], np.int64)


def trained_by_numpy(averaging, steps, sparse=False, momentum=MOMENTUM):
    """The variable and its average."""
    p, m = start(), np.zeros((ROWS, WIDTH))
    average, means = p.copy(), 0
    for step in range(steps):
        gradient = p + step
        if sparse:
            gradient, dense = np.zeros_like(p), gradient
            for row in ids_of(step):
                gradient[row] += dense[row]
        m = momentum * m - RATE * gradient
        p = p + m
        if isinstance(averaging, tf_optim.Lookahead) and (step + 1) % 3 == 0:
            average = average + 0.25 * (p - average)
            p = average.copy()
        elif isinstance(averaging, tf_optim.StochasticWeightAveraging):
            if step >= 2 and (step - 2) % 4 == 0:
                average = (means * average + p) / (means + 1)
                means += 1
    return p, average


class Training:
    def __init__(
        self, averaging, sparse=False, momentum=MOMENTUM, jit=False, **options
    ):
        self.sparse = sparse
        self.variable = tf.Variable(start())
        self.optimizer = tf_optim.SGD(
            RATE, momentum=momentum, averaging=averaging, **options
        )
        self.optimizer.build([self.variable])
        self.step = tf.function(self._step, jit_compile=jit)

    def _step(self, number, ids):
        number = tf.cast(number, tf.float64)
        if self.sparse:
            rows = tf_optim.lookup(self.variable, ids) + number
            gradient = tf.IndexedSlices(rows, ids, (ROWS, WIDTH))
        else:
            gradient = self.variable + number
        self.optimizer.apply_gradients([(gradient, self.variable)])

    def run(self, steps, first=0, eager=False):
        for i in range(first, steps):
            (self._step if eager else self.step)(tf.constant(i), tf.constant(ids_of(i)))
        return self

    def values(self):
        (average,) = self.optimizer._model_variables_moving_average
        return self.variable.numpy(), np.asarray(average)


def assert_close(received, expected):
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@both
@pytest.mark.parametrize("way", ["eager", "function", "jit"])
def test_as_in_the_paper(averaging, way):
    training = Training(averaging, jit=way == "jit").run(11, eager=way == "eager")
    assert_close(training.values(), trained_by_numpy(averaging, 11))


@both
@pytest.mark.parametrize("mode", ["lazy", "dense", "exact"])
def test_tables(averaging, mode):
    """Rows that lie idle are averaged too; without momentum all modes are one."""
    momentum = 0.0 if mode == "lazy" else MOMENTUM
    training = Training(averaging, True, momentum, sparse_update=mode).run(11)
    assert_close(training.values(), trained_by_numpy(averaging, 11, True, momentum))


@both
def test_goes_on_from_a_checkpoint(averaging, tmp_path):
    first = Training(averaging).run(5)
    path = str(tmp_path / "state")
    made = tf.train.Checkpoint(v=first.variable, o=first.optimizer)
    made.write(path)
    second = Training(averaging)
    made = tf.train.Checkpoint(v=second.variable, o=second.optimizer)
    made.read(path).assert_consumed()
    assert_close(second.run(11, first=5).values(), trained_by_numpy(averaging, 11))


@both
def test_begins_at_the_first_step_that_is_taken(averaging):
    """Others were counted before: skipped, or of an optimizer without averages."""
    training = Training(averaging)
    training.optimizer.iterations.assign(12)  # where both periods begin again
    training.run(11)
    assert_close(training.values(), trained_by_numpy(averaging, 11))


@both
def test_begins_where_a_checkpoint_has_no_averages(averaging, tmp_path):
    path = str(tmp_path / "state")
    old = Training(None).run(12)
    tf.train.Checkpoint(v=old.variable, o=old.optimizer).write(path)
    training = Training(averaging)
    made = tf.train.Checkpoint(v=training.variable, o=training.optimizer)
    made.read(path).expect_partial()
    p = training.variable.numpy()
    is_swa = averaging is SWA
    training.run(15 if is_swa else 13, first=12)
    variable, average = training.values()
    expected = variable if is_swa else p
    np.testing.assert_array_equal(average, expected)


@both
def test_variables_without_a_gradient_are_averaged(averaging):
    other = tf.Variable([3.0, 4.0])
    optimizer = tf_optim.SGD(0.5, averaging=averaging)
    variable = tf.Variable(1.0)
    optimizer.build([variable, other])
    for _ in range(3):
        optimizer.apply_gradients([(tf.constant(1.0), variable)])
    pairs = keras_private.averages_of(optimizer, [other])
    np.testing.assert_array_equal(pairs[0][1].numpy(), [3.0, 4.0])
    np.testing.assert_array_equal(other.numpy(), [3.0, 4.0])


def test_what_training_gives_in_the_end():
    """Means, once there are some; Lookahead's variables stay."""
    for averaging, steps in ((SWA, 2), (SWA, 11), (LOOKAHEAD, 11)):
        training = Training(averaging).run(steps)
        variable, average = training.values()
        training.optimizer.finalize_variable_values([training.variable])
        is_mean = averaging is SWA and steps > 2
        expected = average if is_mean else variable
        np.testing.assert_array_equal(training.variable.numpy(), expected)


@pytest.mark.parametrize("mode", ["lazy", "dense"])
@pytest.mark.parametrize("sparse", [False, True])
def test_slow_weights_that_never_move(sparse, mode):
    """They take every step back."""
    never = tf_optim.Lookahead(sync_period=3, slow_step_size=0.0)
    training = Training(never, sparse, 0.0, sparse_update=mode).run(4)
    assert np.any(training.variable.numpy() != start())
    training.run(6, first=4)
    for value in training.values():
        np.testing.assert_array_equal(value, start())


@both
def test_a_configuration_makes_the_same(averaging):
    optimizer = tf_optim.Adam(averaging=averaging)
    again = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
    assert type(again) is tf_optim.Adam and again.use_ema
    assert type(again.averaging) is type(averaging)
    assert again.averaging.get_config() == averaging.get_config()


@both
def test_a_model_is_saved_with_it(averaging, tmp_path):
    layers = [tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)]
    model = tf.keras.Sequential(layers)
    model.compile(tf_optim.Adam(0.1, averaging=averaging), "mse")
    x = np.random.default_rng(0).normal(size=(32, 2))
    model.fit(x, x[:, :1], batch_size=4, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    assert repr(loaded.optimizer.averaging) == repr(averaging)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@both
def test_an_h5_file_of_tf_keras(averaging, tmp_path):
    if keras_private.is_keras_3():
        pytest.skip("whose .h5 files have no optimizer's class")
    model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)])
    model.compile(tf_optim.Adam(0.1, averaging=averaging), "mse")
    x = np.ones((8, 2), "float32")
    model.fit(x, x[:, :1], verbose=0)
    model.save(tmp_path / "model.h5")
    loaded = tf.keras.models.load_model(tmp_path / "model.h5")
    assert repr(loaded.optimizer.averaging) == repr(averaging)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tf_optim.Lookahead(0), "`sync_period` must be an integer >= 1"),
        (lambda: tf_optim.Lookahead(2.5), "Received: sync_period=2.5"),
        (lambda: tf_optim.Lookahead(5, 1.5), "`slow_step_size` must be in"),
        (
            lambda: tf_optim.StochasticWeightAveraging(-1),
            "`start_averaging` must be an integer >= 0",
        ),
        (
            lambda: tf_optim.StochasticWeightAveraging(average_period=0),
            "`average_period` must be an integer >= 1",
        ),
        (lambda: tf_optim.SGD(averaging="swa"), "`averaging` must be None"),
        (
            lambda: tf_optim.SGD(averaging=SWA, ema_overwrite_frequency=3),
            "`ema_overwrite_frequency` must be left out",
        ),
        (
            lambda: tf_optim.unfuse(tf_optim.SGD(averaging=SWA)),
            "`averaging` must be left out",
        ),
    ],
)
def test_wrong_arguments(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@keras_3_only
def test_not_with_accumulation():
    with pytest.raises(ValueError, match="`gradient_accumulation_steps` must be left"):
        tf_optim.SGD(averaging=SWA, gradient_accumulation_steps=2)


@keras_3_only
def test_keras_evaluates_with_the_means():
    """By its callback SwapEMAWeights."""
    model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)])
    swa = tf_optim.StochasticWeightAveraging(average_period=1)
    model.compile(tf_optim.SGD(0.1, averaging=swa), "mse")
    x = np.random.default_rng(0).normal(size=(32, 2))
    model.fit(x, x[:, :1], batch_size=4, verbose=0)
    mean = [
        average.numpy() for average in model.optimizer._model_variables_moving_average
    ]
    swap = tf.keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    swap.set_model(model)
    swap.set_params({"epochs": 2})
    swap.on_epoch_end(0)
    for one, other in zip(model.get_weights(), mean, strict=True):
        np.testing.assert_array_equal(one, other)


@keras_3_only
@pytest.mark.parametrize("arguments", [{}, {"swap_on_epoch": True}], ids=str)
def test_before_the_first_mean_keras_evaluates_the_variables(arguments):
    """And so `fit` ends with them, if no mean is ever taken."""
    weights = []
    late = tf_optim.StochasticWeightAveraging(start_averaging=1000)
    for averaging, callbacks in (
        (late, [tf.keras.callbacks.SwapEMAWeights(**arguments)]),
        (None, []),
    ):
        tf.keras.utils.set_random_seed(0)
        layers = [tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)]
        model = tf.keras.Sequential(layers)
        model.compile(tf_optim.SGD(0.1, averaging=averaging), "mse")
        data = np.ones((8, 2)), np.ones((8, 1))
        fitted = model.fit(
            *data, 4, 3, 0, validation_data=data, shuffle=False, callbacks=callbacks
        )
        weights.append([*model.get_weights(), fitted.history["val_loss"]])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
