"""What changes while a model trains: schedules, callbacks, averages, constraints."""

import numpy as np
import pytest
import tensorflow as tf

from tests import flavours, models
from tests.marks import a_few, both_flavours, both_ways, modes

pytestmark = both_flavours

schedules = tf.keras.optimizers.schedules
SCHEDULES = {
    "ExponentialDecay": lambda: schedules.ExponentialDecay(0.05, 3, 0.5),
    "PiecewiseConstantDecay": lambda: schedules.PiecewiseConstantDecay(
        [2, 5], [0.05, 0.01, 0.002]
    ),
    "CosineDecay": lambda: schedules.CosineDecay(
        0.001, 9, warmup_target=0.05, warmup_steps=3
    ),
    "CosineDecayRestarts": lambda: schedules.CosineDecayRestarts(0.05, 2),
    "PolynomialDecay": lambda: schedules.PolynomialDecay(0.05, 6, power=2.0),
    "InverseTimeDecay": lambda: schedules.InverseTimeDecay(0.05, 2, 0.5),
}


def trained(optimizer, sparse, rates=None, steps=8, constraint=None):
    """Variables after steps on a table and a bias; `rates` set the rate of each."""
    table, bias = (
        tf.Variable(v, constraint=constraint) for v in models.variables(((9, 3), (3,)))
    )
    rng = np.random.default_rng(2)
    for i in range(steps):
        values = tf.constant(rng.normal(size=(5, 3)), tf.float32)
        gradient = models.slices(rng.integers(0, 9, size=5), values, 9)
        if rates:
            optimizer.learning_rate = rates(i)
        optimizer.apply_gradients(
            [
                (gradient if sparse else models.dense(gradient), table),
                (tf.constant(rng.normal(size=3), tf.float32), bias),
            ]
        )
    return table, bias


def test_every_schedule_of_keras_is_here():
    """But for the base class."""
    names = {name for name in dir(schedules) if name[0].isupper()}
    assert names - {"LearningRateSchedule"} == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
@modes
@a_few
def test_schedule_is_its_values_set_by_hand(case, mode, name):
    schedule = SCHEDULES[name]()
    follows = trained(models.ours(case, schedule, sparse_update=mode), True)
    by_hand = trained(
        models.ours(case, sparse_update=mode), True, lambda i: float(schedule(i))
    )
    for left, right in zip(follows, by_hand, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("graph", [False, True], ids=["eagerly", "compiled"])
@a_few
def test_learning_rate_set_in_a_callback(case, graph):
    """Of epochs, with Keras' scheduler, and of batches, by hand."""

    class Halve(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rate = float(np.asarray(self.model.optimizer.learning_rate))
            self.model.optimizer.learning_rate = rate / 2

    ids, targets = models.recommender_data(unique=True)
    results = []
    for make, options in (
        (models.ours, {"sparse_update": "dense"}),
        (models.stock, {}),
    ):
        model = models.compiled(
            models.recommender(),
            make(case, 1.0, **options),
            run_eagerly=not graph,
            jit_compile=False,
        )
        scheduler = tf.keras.callbacks.LearningRateScheduler(lambda e: 0.05 * (e + 1))
        model.fit(
            ids,
            targets,
            8,
            2,
            shuffle=False,
            verbose=0,
            callbacks=[scheduler, Halve()],
        )
        assert float(np.asarray(model.optimizer.learning_rate)) == np.float32(0.025)
        results.append(model.get_weights())
    for left, right in zip(*results, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("every", [None, 3])
@modes
@a_few
def test_averages_with_sparse_gradients(case, mode, every):
    """A float64 average beside the training, of every row at every step."""
    momentum = 0.75
    optimizer = models.ours(
        case,
        sparse_update=mode,
        use_ema=True,
        ema_momentum=momentum,
        ema_overwrite_frequency=every,
    )
    table = models.variables(((6, 2),))[0]
    optimizer.build([table])

    def average():  # of all rows up to date: the attribute sees to that
        return optimizer._model_variables_moving_average[0].numpy()

    # Keras 3 starts from the first values after a step, tf_keras from those before.
    expected = table.numpy().astype(np.float64) if flavours.LEGACY else None
    for step in range(7):
        before = table.numpy()
        slices = models.slices([1, 4, 1], tf.ones([3, 2]) * (step - 2.5), 6)
        optimizer.apply_gradients([(slices, table)])
        overwritten = every and (step + 1) % every == 0
        if overwritten:
            np.testing.assert_array_equal(table, average())
            expected = average().astype(np.float64)
            continue
        if mode == "lazy":
            np.testing.assert_array_equal(
                table.numpy()[[0, 2, 3, 5]], before[[0, 2, 3, 5]]
            )
        value = table.numpy().astype(np.float64)
        old = value if expected is None else expected
        expected = momentum * old + (1 - momentum) * value
        np.testing.assert_allclose(average(), expected, rtol=1e-6)
    optimizer.finalize_variable_values([table])
    np.testing.assert_array_equal(table, average())


@both_ways
@modes
@a_few
def test_constraint_with_sparse_gradients(case, mode, graph):
    """Applied to the whole variable after the step, as by stock."""
    table = tf.Variable(tf.ones([5, 2]), constraint=lambda v: tf.minimum(v, 1.01))
    optimizer = models.ours(case, 0.5, sparse_update=mode)
    optimizer.build([table])

    def step(ids, values):
        optimizer.apply_gradients([(models.slices(ids, values, 5), table)])

    step = tf.function(step) if graph else step
    step(tf.constant([1, 3, 1]), tf.constant([[-1.0, 1.0]] * 3))
    after = table.numpy()
    assert (after[[1, 3], 0] == np.float32(1.01)).all()
    assert (after[[1, 3], 1] < 1.0).all()
    np.testing.assert_array_equal(after[[0, 2, 4]], 1.0)
