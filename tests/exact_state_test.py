"""sparse_update="exact": nobody sees, saves or resumes from a row that lies behind.

The yardstick is the same program with "dense", in which no row ever does.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.marks import both_flavours, keras_3_only
from tf_optim import prepared
from tf_optim.keras_private import raw

pytestmark = both_flavours
RTOL = 2e-5


def recommender(layer, rows=60):
    tf.keras.utils.set_random_seed(0)
    ids = tf.keras.layers.Input((3,), dtype="int32")
    vectors = layer(rows, 4, mask_zero=True, name="table")(ids)
    vectors = tf.keras.layers.GlobalAveragePooling1D()(vectors)
    return tf.keras.Model(ids, tf.keras.layers.Dense(1)(vectors))


def data(rows=60):
    rng = np.random.default_rng(6)
    ids = np.where(rng.random((96, 3)) < 0.9, rng.integers(8, size=(96, 3)), 0)
    ids[::7, 0] = rng.integers(rows, size=len(ids[::7]))
    ids[:, 2] = np.maximum(ids[:, 2], 1)  # not masked as a whole
    return ids.astype("int32"), rng.normal(size=(96, 1)).astype("float32")


def trained(mode, layer=None, epochs=2, model=None, **options):
    model = model or recommender(layer or tf_optim.Embedding)
    if not getattr(model, "optimizer", None):
        models.compiled(model, tf_optim.Adam(0.02, sparse_update=mode, **options))
    if mode != "dense":
        model.evaluate(*data(), verbose=0)  # traced before the first step
    model.fit(*data(), batch_size=8, epochs=epochs, verbose=0, shuffle=False)
    return model


def assert_same(received, expected):
    for one, other in zip(received, expected, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=RTOL, atol=RTOL)


@functools.cache
def yardstick(epochs):
    """Weights and slots of `trained("dense")`, which are the same each time."""
    model = trained("dense", epochs=epochs)
    return model.get_weights(), models.state(model.optimizer)


@pytest.fixture(scope="module")
def dense():
    return trained("dense")


def test_weights_losses_and_slots(dense):
    model = trained("exact")
    assert prepared.history_of(raw(model.get_layer("table").embeddings)) is not None
    np.testing.assert_allclose(
        model.evaluate(*data(), verbose=0), dense.evaluate(*data(), verbose=0), RTOL
    )
    assert_same(
        model.predict(data()[0], verbose=0), dense.predict(data()[0], verbose=0)
    )
    assert_same(model.get_weights(), dense.get_weights())
    assert_same(models.state(model.optimizer), models.state(dense.optimizer))


def test_a_model_of_stock_layers_is_prepared_in_place(dense):
    model = tf_optim.prepare(recommender(tf.keras.layers.Embedding))
    assert type(model.get_layer("table")) is tf_optim.Embedding
    assert_same(trained("exact", model=model).get_weights(), dense.get_weights())


class Subclassed(tf.keras.Model):
    """Its layers are built when `fit` first traces them."""

    def __init__(self):
        super().__init__()
        self.table = tf.keras.layers.Embedding(60, 4)
        self.score = tf.keras.layers.Dense(1)

    def call(self, ids):
        return self.score(tf.reduce_mean(self.table(ids), 1))


@pytest.mark.parametrize("prepare_later", [False, True])
def test_a_subclassed_model_that_is_not_built_yet(prepare_later):
    results = []
    for mode in ("exact", "dense"):
        tf.keras.utils.set_random_seed(0)
        model = Subclassed()
        if not prepare_later:
            tf_optim.prepare(model)
        models.compiled(model, tf_optim.Adam(0.02, sparse_update=mode))
        if prepare_later:
            model(data()[0][:2])  # built outside of a function
            tf_optim.prepare(model)
        fit = {"batch_size": 8, "epochs": 2, "verbose": 0, "shuffle": False}
        model.fit(*data(), **fit)
        model.evaluate(*data(), verbose=0)
        assert len(model.optimizer._tables.tables) == (mode == "exact")
        results.append(model.get_weights())
    assert_same(*results)


def test_stock_layers_take_dense_steps(dense):
    with pytest.warns(UserWarning, match="takes dense steps of .*not prepared"):
        model = trained("exact", tf.keras.layers.Embedding)
    assert_same(model.get_weights(), dense.get_weights())


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_files_hold_what_dense_would_and_training_goes_on(dense, tmp_path, suffix):
    model, path = trained("exact"), str(tmp_path / f"model{suffix}")
    expected, _ = yardstick(epochs=3)
    if suffix == ".keras":
        model.save(path)
        loaded = tf.keras.models.load_model(path)
        assert loaded.optimizer.sparse_update == "exact"
    else:
        model.save_weights(path)
        loaded = recommender(tf.keras.layers.Embedding)
        loaded.load_weights(path)
    assert_same(loaded.get_weights(), dense.get_weights())
    assert_same(trained("exact", epochs=1, model=model).get_weights(), expected)
    if suffix == ".keras":
        assert_same(trained("exact", epochs=1, model=loaded).get_weights(), expected)


def test_checkpoints_of_tensorflow(dense, tmp_path):
    model = trained("exact")
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(
        str(tmp_path / "checkpoint")
    )
    other = trained("exact", epochs=1)  # rows of which lie behind
    saved = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
    saved.restore(path).assert_existing_objects_matched()
    weights, state = yardstick(epochs=3)
    assert_same(other.get_weights(), dense.get_weights())
    trained("exact", epochs=1, model=other)
    assert_same(other.get_weights(), weights)
    assert_same(models.state(other.optimizer), state)


@pytest.mark.parametrize("mode", ["exact", "eventual"])
def test_a_model_for_others_holds_no_op_of_ours(mode, tmp_path):
    stock = tf.keras.layers.Embedding
    model = trained(mode, stock if mode == "eventual" else None)
    before = model.get_weights()
    tf_optim.unprepare(model)
    assert type(model.get_layer("table")) is stock
    assert_same(model.get_weights(), before)

    class Served(tf.Module):
        def __init__(self):
            self.weights = [raw(weight) for weight in model.weights]

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int32)])
        def __call__(self, ids):
            return model(ids)

    tf.saved_model.save(Served(), str(tmp_path / "served"))
    saved = (tmp_path / "served" / "saved_model.pb").read_bytes()
    assert b"TfOptim" not in saved
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    assert_same([loaded(data()[0])], [model.predict(data()[0], verbose=0)])
    model.fit(*data(), batch_size=8, verbose=0)
    assert np.abs(model.get_weights()[0] - before[0]).max() > 0


def test_unprepare_leaves_the_weights_of_dense(dense):
    model = tf_optim.unprepare(trained("exact"))
    assert_same(model.get_weights(), dense.get_weights())


@pytest.mark.parametrize("prepared_again", [False, True])
def test_training_goes_on_after_an_export(dense, prepared_again):
    model = trained("exact", epochs=1)
    tf_optim.unprepare(model)
    if prepared_again:
        tf_optim.prepare(model)
    model.fit(*data(), batch_size=8, verbose=0, shuffle=False)
    assert_same(model.get_weights(), dense.get_weights())
    assert_same(models.state(model.optimizer), models.state(dense.optimizer))
    assert_same(
        [model.evaluate(*data(), verbose=0)], [dense.evaluate(*data(), verbose=0)]
    )


@pytest.mark.parametrize("prepared_again", [False, True])
def test_a_step_that_was_traced_before_an_export_says_so(prepared_again):
    table = tf.Variable(tf.ones([10, 2]))
    optimizer = tf_optim.Adam(0.1, sparse_update="exact")
    optimizer.build([table])

    @tf.function
    def step(ids):
        rows = tf_optim.lookup(table, ids)
        optimizer.apply_gradients([(models.slices(ids, rows, 10), table)])

    step(tf.constant([1, 2]))
    tf_optim.unprepare(table)
    if prepared_again:
        tf_optim.prepare(table)
    before = table.numpy()
    with pytest.raises(tf.errors.FailedPreconditionError, match="trace it anew"):
        step(tf.constant([1, 2]))
    np.testing.assert_array_equal(table, before)
    assert int(optimizer.iterations) == 1


def test_a_saved_model_of_a_prepared_one(dense, tmp_path):
    """Its functions hold our ops, and every row of its tables is up to date."""
    model = trained("exact")

    class Served(tf.Module):
        def __init__(self):
            self.weights = [raw(weight) for weight in model.weights]

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int32)])
        def __call__(self, ids):
            return model(ids)

    tf.saved_model.save(Served(), str(tmp_path / "served"))
    trained("exact", epochs=1, model=model)
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    assert_same([loaded(data()[0])], [dense.predict(data()[0], verbose=0)])


@keras_3_only
def test_keras_export(dense, tmp_path):
    model = trained("exact")
    model.export(str(tmp_path / "exported"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    assert_same([loaded.serve(data()[0])], [dense.predict(data()[0], verbose=0)])


def test_eventual_evaluates_rows_that_are_up_to_date():
    model = trained("eventual", tf.keras.layers.Embedding)
    models.compiled(model, model.optimizer)  # traced again, now that it is prepared
    stale = model.evaluate(*data(), verbose=0)
    model.optimizer.catch_up()
    assert model.evaluate(*data(), verbose=0) == pytest.approx(stale, rel=1e-6)


def test_eventual_with_averages_from_the_first_step_on():
    results = []
    for mode in ("eventual", "dense"):
        table = tf.Variable(np.linspace(-1, 1, 12).reshape(6, 2), dtype="float64")
        optimizer = tf_optim.Adam(0.1, sparse_update=mode, use_ema=True)
        optimizer.build([table])
        for ids in ([0, 1], [1, 1], [5, 0], [2, 1]):
            gradient = models.slices(ids, tf.ones([2, 2], tf.float64), 6)
            optimizer.apply_gradients([(gradient, table)])
        results.append([table.numpy(), *(v.numpy() for v in optimizer.variables)])
    assert_same(*results)


def test_eventual_gives_the_same_bits_each_time():
    """Rows are not brought up to date while the step's own lookup reads them."""
    results = []
    for _ in range(3):
        rng = np.random.default_rng(0)
        table = tf.Variable(rng.normal(size=(4000, 16)), dtype="float32")
        optimizer = tf_optim.Adam(0.1, sparse_update="eventual")

        @tf.function
        def step(ids, table=table, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.gather(table, ids) ** 2)
            optimizer.apply_gradients([(tape.gradient(loss, table), table)])

        for _ in range(20):
            step(tf.constant(rng.integers(4000, size=3000)))
        results.append(table.numpy())
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_values_set_by_hand_are_taken_as_they_are():
    results = []
    for mode in ("exact", "dense"):
        model = trained(mode)
        weights = [np.full_like(w, 0.25) for w in model.get_weights()]
        model.set_weights(weights)
        assert_same(model.get_weights(), weights)
        model.optimizer.set_weights([np.copy(w) for w in model.optimizer.get_weights()])
        trained(mode, epochs=1, model=model)
        results.append(model.get_weights())
    assert_same(*results)


@pytest.mark.parametrize(
    "options",
    [
        {"use_ema": True, "ema_momentum": 0.8},
        {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 5},
        {"global_clipnorm": 0.1, "weight_decay": 0.01},
        {"clipvalue": 0.01},
        pytest.param({"gradient_accumulation_steps": 2}, marks=keras_3_only),
        pytest.param(
            {"gradient_accumulation_steps": 2, "use_ema": True}, marks=keras_3_only
        ),
        pytest.param({"loss_scale_factor": 8.0}, marks=keras_3_only),
    ],
    ids=str,
)
def test_keras_features(options):
    results = [trained(mode, **options) for mode in ("exact", "dense")]
    for model in results:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    exact_one, dense_one = results
    assert_same(exact_one.get_weights(), dense_one.get_weights())
    assert_same(models.state(exact_one.optimizer), models.state(dense_one.optimizer))


def test_changed_hyperparameters_and_another_optimizer():
    results = []
    for mode in ("exact", "dense"):
        model = trained(mode, epochs=1)
        model.optimizer.learning_rate = 0.005
        trained(mode, epochs=1, model=model)
        model.optimizer.beta_1 = 0.5
        model.optimizer.epsilon = 1e-3
        model.make_train_function(force=True)  # hyperparameters are in the graph
        trained(mode, epochs=1, model=model)
        models.compiled(model, tf_optim.RMSprop(0.01, momentum=0.9, sparse_update=mode))
        trained(mode, epochs=1, model=model)
        results.append(model.get_weights())
    assert_same(*results)
