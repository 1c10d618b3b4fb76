"""`patch_keras`: Keras gives our optimizers, and they train as its own."""

import copy
import inspect
import logging
import pickle
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, flavours, models
from tests.marks import a_few, both_flavours, keras_3_only, stock_richest
from tf_optim import conversion, flavour, keras_private, replacement, specs

pytestmark = both_flavours
stock = tf.keras.optimizers
CLASSES = {name: getattr(stock, name) for name in dir(stock)}
NAMES = [
    o.name
    for o in cases.OPTIMIZERS
    if o.name in CLASSES and specs.SPECS[o.name].is_stocks_step
]


@pytest.fixture(autouse=True)
def log(caplog):
    """What was logged; the patch is gone when the test ends, and what it counted."""
    caplog.set_level(logging.WARNING, "tf_optim")
    yield caplog
    tf_optim.unpatch_keras()
    replacement._patch = replacement._Patch()


def since_the_patch(log):
    """Other tests' optimizers may exist still."""
    return [r for r in log.records if "exist already" not in r.getMessage()]


@pytest.mark.parametrize("name", NAMES)
def test_every_way_to_ask_for_one(name, log):
    assert name in tf_optim.patch_keras()
    ours, key = getattr(tf_optim, name), name.lower()
    made = [
        CLASSES[name](),  # the class as it was imported before
        getattr(stock, name)(0.5, name="mine"),
        getattr(stock, name).from_config(CLASSES[name]().get_config()),
        tf.keras.utils.deserialize_keras_object(stock.serialize(CLASSES[name](0.5))),
    ]
    if name != "Lamb" and (name != "Lion" or not flavours.LEGACY):  # stock knows not
        made += [stock.get(key), stock.deserialize(stock.serialize(made[0]))]
        made += [stock.get({"class_name": name, "config": made[0].get_config()})]
        made += [models.compiled(models.classifier(), key, "classes").optimizer]
    for each in made:
        assert isinstance(each, ours) and isinstance(each, CLASSES[name])
        assert each.sparse_update == "dense"
    assert made[1].name == "mine" and float(made[3].learning_rate) == 0.5
    assert not since_the_patch(log)
    tf_optim.unpatch_keras()
    assert type(CLASSES[name]()) is CLASSES[name]
    assert ours(0.5).sparse_update == "lazy"  # who asks us is not concerned


@stock_richest
def test_trains_as_stock(case):
    results = []
    for patched in (False, True):
        if patched:
            tf_optim.patch_keras()
        optimizer, var_list = models.stock(case), models.variables()
        assert isinstance(optimizer, flavour.FusedOptimizer) == patched
        models.train(optimizer, var_list, models.gradients(4))
        results.append(models.everything(var_list, optimizer))
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@a_few
def test_rows_that_a_batch_does_not_name_move_as_in_stock(case):
    results = []
    for patched in (False, True):
        if patched:
            tf_optim.patch_keras()
        models.skip_where_stock_is_wrong(case)
        model = models.compiled(models.recommender(), models.stock(case))
        ids, y = models.recommender_data()
        model.fit(ids, y, 8, 3, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["exact", "lazy"])
def test_layers_and_their_subclasses_in_each_mode(mode, tmp_path):
    """Keras makes layers by what it finds out of their constructor."""

    class Table(tf.keras.layers.Embedding):
        pass

    losses = []
    for patched in (False, True):
        if patched:
            tf_optim.patch_keras(sparse_update=mode)
        tf.keras.utils.set_random_seed(0)
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Embedding(50, 4),
                tf.keras.layers.Lambda(lambda rows: tf.reduce_mean(rows, 1)),
                tf.keras.layers.Dense(1),
            ]
        )
        models.compiled(model, tf.keras.optimizers.SGD(0.1, momentum=0.9))
        ids = np.arange(64).reshape(16, 4) % 50
        history = model.fit(
            ids, np.ones([16, 1]), 4, 3, shuffle=False, verbose=0
        ).history
        losses.append(history["loss"])
        layer = model.layers[0]
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        assert Table(input_dim=5, output_dim=2)(np.array([1])).shape == (1, 2)
    assert (np.max(np.abs(np.subtract(*losses))) < 1e-5) == (mode == "exact")


def test_choices():
    with pytest.raises(ValueError, match="`names` must be of .*Received: .*'Adamant'"):
        tf_optim.patch_keras(["Adam", "Adamant"])
    with pytest.raises(ValueError, match=r"`names` must be of .*Received: names=\[\]"):
        tf_optim.patch_keras([])
    with pytest.raises(ValueError, match="`sparse_update` must be .*'lax'"):
        tf_optim.patch_keras(sparse_update="lax")
    assert type(stock.Adam()) is CLASSES["Adam"]
    assert tf_optim.patch_keras(["Adam", "SGD"], sparse_update="lazy") == [
        "Adam",
        "SGD",
    ]
    assert stock.Adam().sparse_update == stock.get("sgd").sparse_update == "lazy"
    assert type(stock.RMSprop()) is CLASSES["RMSprop"]
    assert tf_optim.patch_keras("RMSprop") == ["RMSprop"]  # in the first one's place
    assert stock.RMSprop().sparse_update == "dense"
    assert type(stock.Adam()) is CLASSES["Adam"]


def test_constructor_is_stocks():
    """Its signature, its order of arguments, its errors."""
    before = inspect.signature(stock.Adam)
    with pytest.raises((TypeError, ValueError)) as error:
        stock.Adam(speed=3)
    said = str(error.value)
    tf_optim.patch_keras()
    assert inspect.signature(stock.Adam) == before
    values = {"beta_1": 0.75, "amsgrad": True, "clipnorm": 2.0, "use_ema": True}
    arguments = {n: p.default for n, p in before.parameters.items() if n != "kwargs"}
    made = stock.Adam(*{**arguments, **values}.values())
    assert isinstance(made, tf_optim.Adam)
    assert {name: getattr(made, name) for name in values} == values
    with pytest.raises(type(error.value)) as error:
        stock.Adam(speed=3)
    assert str(error.value) == said


def test_argument_that_only_stock_takes(log):
    """Stock ignores a clip of -1; ours refuses it."""
    tf_optim.patch_keras()
    for _ in range(2):
        left = stock.Adam(0.5, clipvalue=-1.0)
        assert type(left) is CLASSES["Adam"] and left.clipvalue == -1.0
        assert float(left.learning_rate) == 0.5
    (record,) = since_the_patch(log)
    assert "optimizers.Adam with these arguments" in record.getMessage()
    assert "`clipvalue` must be" in record.getMessage()
    models.train(left, models.variables(), models.gradients(1))


class Mine(stock.Adam):
    """A class of a script's own."""


def test_what_is_left_alone_is_said_once(log):
    before = stock.Adam()
    tf_optim.patch_keras()
    assert "optimizer(s) that exist already" in log.records[0].getMessage()
    assert type(before) is CLASSES["Adam"]
    assert isinstance(tf_optim.fuse(before), tf_optim.Adam)
    del log.records[:]
    for _ in range(2):
        assert type(Mine()) is Mine
        make = stock.legacy.Adam if flavours.LEGACY else stock.ScheduleFreeAdamW
        assert not isinstance(make(), flavour.FusedOptimizer)
    said = [record.getMessage() for record in log.records]
    expected = ["Mine as it is: it is a class of its own"]
    other = "legacy.Adam" if flavours.LEGACY else "ScheduleFreeAdamW"
    expected += [f"optimizers.{other} as it is: tf_optim has no counterpart"]
    assert len(said) == len(expected)
    assert all(part in line for part, line in zip(expected, said, strict=True))


def test_the_other_keras_is_left_alone(log):
    if flavours.LEGACY:
        import keras as other
    else:
        import tf_keras as other
    tf_optim.patch_keras()
    made = [other.optimizers.Adam() for _ in range(2)]
    assert not any(isinstance(each, flavour.FusedOptimizer) for each in made)
    (record,) = since_the_patch(log)
    flag = int(not flavours.LEGACY)
    assert f"Set TF_USE_LEGACY_KERAS={flag}" in record.getMessage()


def test_copies_of_stock(log):
    """In tf_keras a copy is no construction; Keras 3 saves and loads."""
    old = stock.SGD(0.5)
    tf_optim.patch_keras()
    copied = copy.copy(old)
    assert isinstance(copied, tf_optim.SGD) != flavours.LEGACY
    before = models.variables()
    models.train(copied, before, models.gradients(2))
    assert int(copied.iterations) == 2


@keras_3_only
def test_pickles_name_stock():
    """Of Keras 3, which keeps the configuration alone; tf_keras makes none."""
    tf_optim.patch_keras()
    made = stock.Adam(0.5, beta_1=0.75)
    models.train(made, models.variables(), models.gradients(2))
    pickled = pickle.dumps(made)
    again = pickle.loads(pickled)
    assert isinstance(again, tf_optim.Adam) and again.beta_1 == 0.75
    tf_optim.unpatch_keras()
    theirs = pickle.loads(pickled)
    assert type(theirs) is CLASSES["Adam"] and theirs.beta_1 == 0.75


@keras_3_only
def test_pickled_layers_name_stock():
    tf_optim.patch_keras(sparse_update="exact")
    layer = tf.keras.layers.Embedding(10, 4)
    rows = layer(np.array([1, 2])).numpy()
    pickled = pickle.dumps(layer)
    again = pickle.loads(pickled)
    assert isinstance(again, tf_optim.Embedding)
    np.testing.assert_array_equal(again(np.array([1, 2])), rows)
    tf_optim.unpatch_keras()
    theirs = pickle.loads(pickled)
    assert type(theirs) is tf.keras.layers.Embedding
    np.testing.assert_array_equal(theirs(np.array([1, 2])), rows)


@pytest.mark.parametrize("way", ["patched", "prepared", "ours"])
def test_a_function_from_before_the_first_call_reads_rows_that_are_up_to_date(way):
    """A layer's table is ours from when it is built."""
    if way == "patched":
        tf_optim.patch_keras(sparse_update="exact")
    make = tf_optim.Embedding if way == "ours" else tf.keras.layers.Embedding
    layer = make(8, 2, embeddings_initializer="ones")
    if way == "prepared":
        tf_optim.prepare(layer)
    layer.build((None,))
    (table,) = layer.trainable_variables
    table = keras_private.raw(table)
    optimizer = tf_optim.Adam(0.1, sparse_update="exact")
    optimizer.build([table])
    read = tf.function(lambda ids: tf.gather(table, ids))
    read(tf.constant([0]))

    @tf.function
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ids) ** 2)
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # no dense step
        for i in range(5):
            step(tf.constant([min(i, 3)]))
        # A gradient that was computed elsewhere, of rows that lie behind.
        optimizer.apply_gradients([(models.slices([0], tf.ones([1, 2]), 8), table)])
    np.testing.assert_array_equal(read(tf.constant([0]))[0], table.numpy()[0])
    assert table.numpy()[0, 0] < 0.7  # six steps, one of which named it


@a_few
def test_saved_models_name_stock(case, tmp_path):
    """And load with or without the patch, state included."""
    tf_optim.patch_keras()
    models.skip_where_stock_is_wrong(case)
    model = models.compiled(models.classifier(), models.stock(case), "classes")
    model.fit(*models.classifier_data(), verbose=0)
    model.save(tmp_path / "model.keras")
    config = stock.serialize(model.optimizer)
    assert config["class_name"].lower() == case.name.lower()
    assert "sparse_update" not in config["config"]
    again = tf.keras.models.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(again, getattr(tf_optim, case.name))
    tf_optim.unpatch_keras()
    theirs = tf.keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(theirs) is CLASSES[case.name]
    for left, middle, right in zip(
        *(models.state(o) for o in (model.optimizer, again, theirs)), strict=True
    ):
        np.testing.assert_array_equal(left, middle)
        np.testing.assert_array_equal(left, right)


def test_fuse_and_unfuse_under_the_patch():
    tf_optim.patch_keras()
    made = stock.RMSprop(0.5, rho=0.75)
    assert tf_optim.fuse(made) is made
    back = tf_optim.unfuse(made)
    assert type(back) is CLASSES["RMSprop"] and back.rho == 0.75
    assert type(tf_optim.fuse(back)) is tf_optim.RMSprop
    assert not conversion.is_making_stock()


@keras_3_only
def test_subclass_of_an_optimizer_made_by_the_patch():
    tf_optim.patch_keras()

    class Own(stock.Adam):
        def __init__(self):
            super().__init__(0.5)

    assert isinstance(Own(), CLASSES["Adam"])
    assert not isinstance(Own(), flavour.FusedOptimizer)


def test_summary():
    assert "nothing was replaced" in replacement.summary()
    tf_optim.patch_keras()
    adam, sgd, variable = stock.Adam(), stock.SGD(), tf.Variable([1.0])
    pair = [(tf.constant([1.0]), variable)]
    for _ in range(3):
        sgd.apply_gradients(pair)
    said = replacement.summary()
    assert "replaced Adam (1), SGD (1); 3 steps by" in said
    assert "; 3 calls outside of a tf.function took " in said
    assert "inside a tf.function" not in said
    adam.build([variable])
    function = tf.function(lambda: adam.apply_gradients(pair))
    for _ in range(4):
        function()
    sgd = adam = function = None  # what is gone has been counted
    said = replacement.summary()
    assert "7 steps by" in said and "; 3 calls outside" in said
    assert said.endswith("inside a tf.function is not known to Python")


def test_verbose(log, monkeypatch):
    calls = []
    monkeypatch.setattr(replacement.atexit, "register", calls.append)
    tf_optim.patch_keras(verbose=True)
    tf_optim.patch_keras(verbose=True)
    stock.get("sgd")
    (record,) = since_the_patch(log)
    assert "SGD is made by tf_optim, with sparse_update='dense'" in record.getMessage()
    (at_exit,) = calls
    printed = []
    monkeypatch.setattr(sys.stderr, "write", printed.append)
    at_exit()
    assert "".join(printed).startswith("tf_optim: replaced SGD (1); 0 steps by")


@keras_3_only
def test_another_backend_of_keras(monkeypatch):
    monkeypatch.setattr(tf.keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="must be tensorflow. Received: .*jax"):
        tf_optim.patch_keras()
    assert type(stock.Adam()) is CLASSES["Adam"]
