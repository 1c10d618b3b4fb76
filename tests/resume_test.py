"""Training that is cut off and taken up again ends in the same bits.

From each format: tf.train.Checkpoint, .keras, .weights.h5; with averages and, in
Keras 3, in the middle of an accumulation window. And SavedModels.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests import flavours, models
from tests.marks import a_few, both_flavours, keras_3_only, kinds, modes

pytestmark = both_flavours

BATCHES, BATCH = 10, 4
CUT = 4  # in the middle of a window of three


def make(case, mode, accumulate, seed):
    options = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 2}
    if accumulate:
        options["gradient_accumulation_steps"] = 3
    rate = case.optimizer.learning_rate
    optimizer = models.ours(case, rate, sparse_update=mode, **options)
    model = models.compiled(models.recommender(seed), optimizer, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def train(model, first, last):
    """Batches `first` to `last` of one course of training."""
    rng = np.random.default_rng(8)
    ids = rng.integers(10, size=(BATCHES, BATCH, 3)).astype("int32")
    targets = rng.normal(size=(BATCHES, BATCH, 1))
    for i in range(first, last):
        model.train_on_batch(ids[i], targets[i])
    return model


def through_checkpoint(model, fresh, folder):
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
        str(folder / "state")
    )
    new = fresh()
    restored = tf.train.Checkpoint(model=new, optimizer=new.optimizer)
    restored.read(path).assert_consumed()
    return new


def through_keras_file(model, fresh, folder):
    del fresh
    model.save(folder / "model.keras")
    return tf.keras.models.load_model(folder / "model.keras")


def through_weights_file(model, fresh, folder):
    model.save_weights(folder / "model.weights.h5")
    new = fresh()
    new.load_weights(folder / "model.weights.h5")
    return new


WAYS = (through_checkpoint, through_keras_file, through_weights_file)


def assert_resumes(case, mode, accumulate, way, folder):
    def fresh(seed=9):
        return make(case, mode, accumulate, seed)

    whole = train(fresh(seed=0), 0, BATCHES)
    cut = train(fresh(seed=0), 0, CUT)
    resumed = train(way(cut, fresh, folder), CUT, BATCHES)
    assert resumed is not cut
    assert type(resumed.optimizer) is type(whole.optimizer)
    for left, right in zip(
        models.everything(resumed.variables, resumed.optimizer),
        models.everything(whole.variables, whole.optimizer),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)


ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@ways
@modes
@kinds
def test_resumed_training_is_uninterrupted_training(case, mode, way, tmp_path):
    assert_resumes(case, mode, False, way, tmp_path)


@keras_3_only
@ways
@modes
@a_few
def test_resumed_in_the_middle_of_a_window(case, mode, way, tmp_path):
    assert_resumes(case, mode, True, way, tmp_path)


@a_few
def test_saved_model(case, tmp_path):
    """Export and load. tf_keras' format brings the optimizer too, without its
    state (stock's neither)."""
    path = str(tmp_path / "model")
    model = train(make(case, "dense", False, seed=0), 0, CUT)
    ids = np.arange(12, dtype="int32").reshape(4, 3)
    expected = model(ids).numpy()
    if not flavours.LEGACY:
        model.export(path, verbose=False)
        loaded = tf.saved_model.load(path)
        np.testing.assert_allclose(loaded.serve(ids), expected, rtol=1e-5, atol=1e-6)
        return
    model.save(path, save_format="tf")
    loaded = tf.keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(ids), expected)
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    train(loaded, CUT, BATCHES)
    assert int(loaded.optimizer.iterations) == BATCHES - CUT
    assert not np.array_equal(loaded(ids), expected)


@pytest.mark.parametrize("steps", [None, 2], ids="accumulating {}".format)
@a_few
def test_saved_model_of_a_training_step(case, steps, tmp_path):
    """A step is a function that can be saved, and goes on where it is loaded."""
    if steps and flavours.LEGACY:
        pytest.skip("tf_keras has no such argument")
    options = {"gradient_accumulation_steps": steps} if steps else {}

    class Trainer(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = models.variables(((6, 2),))[0]
            self.optimizer = models.ours(case, **options)
            self.optimizer.step_statistics = True
            self.optimizer.build([self.table])

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None, 2], tf.float32),
            ]
        )
        def step(self, ids, values):
            gradient = models.slices(ids, values, 6)
            self.optimizer.apply_gradients([(gradient, self.table)])
            return self.table.read_value()

    trainer = Trainer()
    ids, values = np.int64([1, 4, 1]), np.ones((3, 2), np.float32)
    trainer.step(ids, values)
    tf.saved_model.save(trainer, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for each in (np.int64([0]), np.int64([4])):
        expected = trainer.step(each, values[:1])
        np.testing.assert_array_equal(loaded.step(each, values[:1]), expected)
