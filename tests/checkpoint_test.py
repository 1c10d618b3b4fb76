"""State moves between stock and ours, both ways, and training goes on.

Formats: tf.train.Checkpoint, a compiled model's .keras, .weights.h5.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import (
    every,
    every_stock_case,
    kinds,
    richest,
    stock_kinds,
)
from tests.models import ours, stock
from tf_optim import optimizers

pytestmark = pytest.mark.both_flavours

directions = pytest.mark.parametrize(
    ("first", "second"),
    [(stock, ours), (ours, stock), (ours, ours)],
    ids=["stock-to-ours", "ours-to-stock", "ours-to-ours"],
)

STEPS = 6


def assert_same(left, right, exact):
    """Ours to ours continues with the same bits; across makes, within parity."""
    for a, b in zip(left, right, strict=True):
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            largest = np.max(np.abs(b), initial=0.0)
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * largest)


def trained(make, case):
    var_list, optimizer = models.variables(), make(case)
    models.train(optimizer, var_list, models.gradients(STEPS, seed=1))
    return var_list, optimizer


def go_on(var_list, optimizer):
    models.train(optimizer, var_list, models.gradients(STEPS, seed=2))
    return [v.numpy() for v in var_list] + models.state(optimizer)


def values(optimizer):
    return [v.numpy() for v in optimizer.variables]


@every("case", "first")
@directions
@richest
def test_tf_train_checkpoint(case, first, second, tmp_path):
    if stock in (first, second):
        models.skip_where_stock_is_wrong(case)
    var_list, optimizer = trained(first, case)
    saved = tf.train.Checkpoint(optimizer=optimizer, var_list=var_list)
    path = saved.write(str(tmp_path / "state"))

    new_list, new_optimizer = models.variables(seed=9), second(case, 0.37)
    new_optimizer.build(new_list)
    restored = tf.train.Checkpoint(optimizer=new_optimizer, var_list=new_list)
    # Fails unless every value found its place, and every place a value.
    restored.read(path).assert_consumed()

    assert_same(values(new_optimizer), values(optimizer), exact=True)
    assert_same(
        go_on(new_list, new_optimizer), go_on(var_list, optimizer), first is second
    )
    assert int(new_optimizer.iterations) == 2 * STEPS


@pytest.mark.parametrize(
    "name", [n for n in optimizers.__all__ if hasattr(tf.keras.optimizers, n)]
)
def test_files_have_the_order_of_keras(name):
    """A `.keras` file says which variable is which by their order alone."""

    layers = [tf.keras.layers.Dense(4, use_bias=False) for _ in range(3)]
    model = tf.keras.Sequential([tf.keras.layers.Input((4,)), *layers])

    def shapes_and_names(make):
        optimizer = make(0.1, use_ema=True)
        optimizer.build(model.trainable_variables)
        held = optimizer.variables
        held = held() if callable(held) else held
        return [(v.name.split("/")[-1].rstrip("_0123456789:"), v.shape) for v in held]

    stocks = shapes_and_names(getattr(tf.keras.optimizers, name))
    assert shapes_and_names(getattr(tf_optim, name)) == stocks


@stock_kinds
def test_checkpoint_restored_before_the_slots_exist(case, tmp_path):
    var_list, optimizer = trained(stock, case)
    saved = tf.train.Checkpoint(optimizer=optimizer, var_list=var_list)
    path = saved.write(str(tmp_path / "state"))
    new_list, new_optimizer = models.variables(seed=9), ours(case, 0.37)
    restored = tf.train.Checkpoint(optimizer=new_optimizer, var_list=new_list)
    status = restored.read(path)
    new_optimizer.build(new_list)  # slots wait for their values until now
    status.assert_consumed()
    assert_same(values(new_optimizer), values(optimizer), exact=True)


def fitted(make, case):
    x, y = models.classifier_data()
    model = models.compiled(models.classifier(), make(case), "classes")
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return model


def fit_on(model):
    x, y = models.classifier_data()
    model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return model.get_weights() + models.state(model.optimizer)


def fresh(make, case):
    # tf_keras leaves the learning rate out of weights files.
    rate = None if flavours.LEGACY else 0.37
    model = models.compiled(models.classifier(seed=7), make(case, rate), "classes")
    model.optimizer.build(model.trainable_variables)
    return model


@directions
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@every("first", "suffix", "flavour")
@kinds
def test_weights_files(case, first, second, suffix, tmp_path):
    """`load_weights` of either file into a compiled model brings the state."""
    if stock in (first, second):
        models.skip_where_stock_is_wrong(case)
    path = str(tmp_path / f"model{suffix}")
    model = fitted(first, case)
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    new = fresh(second, case)
    new.load_weights(path)
    assert_same(new.get_weights(), model.get_weights(), exact=True)
    assert_same(values(new.optimizer), values(model.optimizer), exact=True)
    assert_same(fit_on(new), fit_on(model), first is second)


@richest
def test_keras_file_of_ours_loads_as_ours(case, tmp_path):
    path = str(tmp_path / "model.keras")
    model = models.compiled(
        models.classifier(), ours(case, sparse_update="dense"), "classes"
    )
    x, y = models.classifier_data(16)
    model.fit(x, y, verbose=0)
    model.save(path)
    loaded = tf.keras.models.load_model(path)
    assert type(loaded.optimizer) is type(model.optimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.sparse_update == "dense"
    assert_same(values(loaded.optimizer), values(model.optimizer), exact=True)
    assert_same(fit_on(loaded), fit_on(model), exact=True)


@every()
@every_stock_case
def test_config_makes_the_same_optimizer(case):
    optimizer = ours(case, 0.02, weight_decay=0.1, sparse_update="dense", name="mine")
    config = optimizer.get_config()
    again = type(optimizer).from_config(config)
    assert type(again) is type(optimizer)
    assert again.get_config() == config
    assert config["sparse_update"] == "dense"
    stock_config = stock(case, 0.02, weight_decay=0.1, name="mine").get_config()
    assert {key: config[key] for key in stock_config} == stock_config


@richest
def test_serialize_and_deserialize(case):
    optimizers = tf.keras.optimizers
    optimizer = ours(case, optimizers.schedules.ExponentialDecay(0.1, 10, 0.5))
    data = optimizers.serialize(optimizer)
    assert f"tf_optim>{case.name}" in str(data)
    again = optimizers.deserialize(data)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


@richest
def test_name_in_compile(case):
    model = models.classifier()
    model.compile(f"tf_optim>{case.name}", "mse")
    assert type(model.optimizer) is type(ours(case))
    assert model.optimizer.sparse_update == "lazy"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@kinds
def test_16_bit_variables_keep_float32_slots(case, dtype, tmp_path):
    """The one difference in state: ours holds float32 where stock holds 16 bits.

    Nothing is lost from ours to ours.
    """
    shapes = ((4, 3),)
    var_list = models.variables(shapes, dtype)
    optimizer = ours(case)
    models.train(optimizer, var_list, models.gradients(3, shapes, dtype))
    kinds = {tf.as_dtype(v.dtype).name for v in optimizer.variables if v.shape.rank}
    assert dtype not in kinds and "float32" in kinds
    path = tf.train.Checkpoint(o=optimizer, v=var_list).write(str(tmp_path / "a"))

    again_list, again = models.variables(shapes, dtype, seed=9), ours(case)
    again.build(again_list)
    tf.train.Checkpoint(o=again, v=again_list).read(path).assert_consumed()
    assert_same(values(again), values(optimizer), exact=True)
    for each, variables in ((optimizer, var_list), (again, again_list)):
        models.train(each, variables, models.gradients(3, shapes, dtype, seed=3))
    assert_same(again_list, var_list, exact=True)


@pytest.mark.keras_3_only
@pytest.mark.parametrize(
    "options", [{}, {"use_ema": True}, {"gradient_accumulation_steps": 2}], ids=str
)
def test_a_model_of_an_h5_file_says_what_its_optimizer_lacks(options, tmp_path):
    """Keras builds it for no variable; stock, too, takes no step then."""
    loss = tf.keras.losses.MeanSquaredError()
    model = models.compiled(models.recommender(), tf_optim.Adam(**options), loss)
    model.fit(*models.recommender_data(), verbose=0)
    model.save(tmp_path / "model.h5")
    loaded = tf.keras.models.load_model(tmp_path / "model.h5")
    with pytest.raises(ValueError, match="Unknown variable: "):
        loaded.fit(*models.recommender_data(), verbose=0)
