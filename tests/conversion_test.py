"""`fuse` and `unfuse`: training goes on where it was, in both directions."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, flavours, models
from tests.marks import (
    a_few,
    both_flavours,
    every,
    every_stock_case,
    keras_3_only,
    stock_few,
    stock_kinds,
    stock_richest,
)
from tf_optim import specs

pytestmark = both_flavours

# Stock's and our own way of one step differ in rounding: see keras_parity_test.
CLOSE = 1e-5


def values(variables):
    return [np.asarray(v.numpy()) for v in variables]


def assert_same(left, right, close=0.0):
    """`close`: as a part of the value, or of the largest beside it."""
    for a, b in zip(left, right, strict=True):
        largest = np.max(np.abs(b), initial=0.0)
        np.testing.assert_allclose(a, b, rtol=close, atol=close * largest)


def trained(optimizer, steps=5):
    var_list = models.variables()
    models.train(optimizer, var_list, models.gradients(steps))
    return var_list


def go_on(optimizer, var_list, start):
    for variable, value in zip(var_list, start, strict=True):
        variable.assign(value)
    models.train(optimizer, var_list, models.gradients(4, seed=3))
    return values([*var_list, *optimizer.variables])


def assert_goes_on(old, var_list):
    """Ours goes on as stock, and what unfuse makes of ours is stock, bit for bit."""
    start = values(var_list)
    fused = tf_optim.fuse(old, sparse_update="dense")
    stock = tf_optim.unfuse(fused)
    assert type(fused) is getattr(tf_optim, type(old).__name__)
    assert type(stock) is type(old)
    assert stock.get_config() == old.get_config()
    for new in (fused, stock):
        assert_same(values(new.variables), values(old.variables))
    expected = go_on(old, var_list, start)
    assert_same(go_on(fused, var_list, start), expected, CLOSE)
    assert_same(go_on(stock, var_list, start), expected)
    return fused


@every_stock_case
def test_training_goes_on(case):
    old = models.stock(case)
    fused = assert_goes_on(old, trained(old))
    assert fused.sparse_update == "dense"


@stock_richest
def test_training_of_ours_goes_on_as_stock(case):
    """With slots that were never stock's, and variables that are the model's."""
    models.stock(case)  # skips where there is none
    old = models.ours(case, use_ema=True)
    var_list = trained(old)
    start = values(var_list)
    stock = tf_optim.unfuse(old)
    assert_same(values(stock.variables), values(old.variables))
    again = tf_optim.fuse(stock)
    expected = go_on(old, var_list, start)
    assert_same(go_on(stock, var_list, start), expected, CLOSE)
    assert_same(go_on(again, var_list, start), expected)


OPTIONS = [
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 4},
    {"clipnorm": 0.5, "weight_decay": 0.1, "name": "mine"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o))
@stock_kinds
def test_training_goes_on_with_options(case, options):
    old = models.stock(case, **options)
    fused = assert_goes_on(old, trained(old))
    assert {key: fused.get_config()[key] for key in options} == options


@keras_3_only
@stock_kinds
def test_training_goes_on_in_the_middle_of_a_window(case):
    old = models.stock(case, gradient_accumulation_steps=3)
    assert_goes_on(old, trained(old))


@a_few
def test_learning_rate_set_since(case):
    old = models.stock(case, 0.5)
    var_list = trained(old)
    old.learning_rate = 0.003
    fused = assert_goes_on(old, var_list)
    assert float(fused.learning_rate) == np.float32(0.003)


class Halving(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Not registered, so it cannot be serialized."""

    def __call__(self, step):
        return 0.02 * 0.5 ** tf.cast(step, "float32")

    def get_config(self):
        raise NotImplementedError


@a_few
def test_learning_rate_schedule(case):
    schedule = tf.keras.optimizers.schedules.CosineDecay(0.02, 20)
    old = models.stock(case, schedule)
    assert_goes_on(old, trained(old))
    fused = tf_optim.fuse(models.stock(case, Halving()))
    stock = tf_optim.unfuse(fused)
    assert fused._learning_rate is stock._learning_rate
    results = [values(trained(each)) for each in (fused, stock)]
    assert_same(*results, CLOSE)
    wrap = tf.keras.mixed_precision.LossScaleOptimizer
    wrapped = tf_optim.fuse(wrap(models.stock(case, Halving())))
    assert isinstance(wrapped.inner_optimizer._learning_rate, Halving)


@a_few
def test_loss_scale_that_does_not_change(case):
    if not flavours.LEGACY:
        pytest.skip("Keras 3 has `loss_scale_factor` for that")
    wrap = tf.keras.mixed_precision.LossScaleOptimizer
    fused = tf_optim.fuse(wrap(models.stock(case), dynamic=False, initial_scale=32.0))
    assert not fused.dynamic and float(fused.loss_scale) == 32.0


@a_few
def test_variables_excluded_from_weight_decay(case):
    for by in ("var_list", "var_names"):
        old, var_list = models.stock(case, weight_decay=0.5), models.variables()
        excluded = {"var_list": [var_list[1]], "var_names": ["v1"]}
        old.exclude_from_weight_decay(**{by: excluded[by]})
        models.train(old, var_list, models.gradients(2))
        assert_goes_on(old, var_list)


@stock_kinds
def test_not_built_yet(case):
    fused = tf_optim.fuse(models.stock(case))
    assert fused.sparse_update == "lazy"
    assert_same(values(trained(fused)), values(trained(models.ours(case))))
    stock = tf_optim.unfuse(models.ours(case))
    assert_same(values(trained(stock)), values(trained(models.stock(case))))


@a_few
def test_the_old_optimizer_is_left_alone(case):
    old = models.stock(case)
    var_list = trained(old)
    before = values(old.variables)
    fused = tf_optim.fuse(old)
    models.train(fused, var_list, models.gradients(2))
    assert_same(values(old.variables), before)


@stock_few
def test_training_of_a_compiled_model_goes_on(case):
    models.skip_where_stock_is_wrong(case)
    x, y = models.classifier_data()
    results = []
    for fuse in (False, True):
        model = models.compiled(models.classifier(), models.stock(case), "classes")
        model.fit(x, y, 16, 1, shuffle=False, verbose=0)
        if fuse:
            models.compiled(model, tf_optim.fuse(model.optimizer), "classes")
        model.fit(x, y, 16, 1, shuffle=False, verbose=0)
        assert int(model.optimizer.iterations) == 8
        results.append(model.get_weights())
    assert type(model.optimizer) is getattr(tf_optim, case.name)
    assert_same(*results, 1e-4)


@every()
@stock_richest
def test_checkpoints_of_the_fused_are_those_of_stock(case, tmp_path):
    old = models.stock(case)
    var_list = trained(old)
    fused = tf_optim.fuse(old)
    path = tf.train.Checkpoint(o=fused).write(str(tmp_path / "state"))
    again = models.stock(case)
    again.build(var_list)
    tf.train.Checkpoint(o=again).read(path).assert_consumed()
    assert_same(values(again.variables), values(old.variables))


@a_few
def test_loss_scale_optimizer(case):
    wrap = tf.keras.mixed_precision.LossScaleOptimizer
    old = wrap(models.stock(case), initial_scale=64.0, dynamic_growth_steps=2)
    var_list = models.variables()
    models.train(old, var_list, models.gradients(3))
    fused = tf_optim.fuse(old, sparse_update="dense")
    stock = tf_optim.unfuse(fused)
    assert type(fused.inner_optimizer) is getattr(tf_optim, case.name)
    assert fused.inner_optimizer.sparse_update == "dense"
    assert type(stock.inner_optimizer) is type(old.inner_optimizer)
    start = values(var_list)
    expected = go_on(old, var_list, start)
    assert_same(go_on(fused, var_list, start), expected, CLOSE)
    assert_same(go_on(stock, var_list, start), expected)
    if flavours.LEGACY:  # in Keras 3 it is one of `variables`
        assert float(fused.loss_scale) == float(old.loss_scale) == 64.0 * 8
    assert stock.get_config()["initial_scale"] == 64.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@a_few
def test_16_bit_variables(case, dtype):
    """Our slots are float32; nothing is lost on the way there."""
    old = models.stock(case)
    var_list = models.variables(dtype=dtype)
    models.train(old, var_list, models.gradients(2, dtype=dtype))
    fused = tf_optim.fuse(old)
    kinds = {tf.as_dtype(v.dtype).name for v in fused.variables}
    assert "float32" in kinds and dtype not in kinds
    assert_same(values(fused.variables), values(old.variables))
    stock = tf_optim.unfuse(fused)
    assert [v.dtype for v in stock.variables] == [v.dtype for v in old.variables]
    assert_same(values(stock.variables), values(old.variables))
    models.train(fused, var_list, models.gradients(2, dtype=dtype))


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_slots_in_fewer_bits(name):
    """Each is near what it was; training goes on near; the way back is exact."""
    shapes = ((64, 80),)
    old, var_list = (
        tf.keras.optimizers.Adam(0.01, amsgrad=True),
        models.variables(shapes),
    )
    models.train(old, var_list, models.gradients(5, shapes))
    start, ends = values(var_list), []
    near = {"bfloat16": 2.0**-8, "int8": 1 / 16}[name]
    for slot_dtype in ("float32", name):
        fused = tf_optim.fuse(old, slot_dtype=slot_dtype)
        assert fused.slot_dtype == slot_dtype and int(fused.iterations) == 5
        for new, other in zip(
            values(fused.variables), values(old.variables), strict=True
        ):
            least = 2.0**-15 * np.abs(other).max()
            rtol = 0 if slot_dtype == "float32" else near
            np.testing.assert_allclose(new, other, rtol=rtol, atol=rtol and least)
        var_list[0].assign(start[0])
        models.train(fused, var_list, models.gradients(4, shapes, seed=3))
        ends.append(var_list[0].numpy())
        stock = tf_optim.unfuse(fused)
        assert_same(values(stock.variables), values(fused.variables))
    moved = np.abs(ends[0] - start[0]).mean()
    assert 0 < np.abs(ends[1] - ends[0]).mean() < near * moved


# --- what is refused


def test_slot_dtypes_that_cannot_be():
    wrap, keras = tf.keras.mixed_precision.LossScaleOptimizer, tf.keras.optimizers
    fused = tf_optim.fuse(wrap(keras.Adam()), slot_dtype="int8")
    assert fused.inner_optimizer.slot_dtype == "int8"
    assert tf_optim.fuse(fused, slot_dtype="int8") is fused
    for old, slot_dtype, message in (
        (keras.Adam(), "int4", "`slot_dtype` must be one of .*Received: 'int4'"),
        (keras.Adagrad(), "int8", "Adagrad must be float32 or bfloat16.*only grows"),
        (fused, "bfloat16", "`slot_dtype` must be that of .*'int8'.*='bfloat16'"),
    ):
        with pytest.raises(ValueError, match=message):
            tf_optim.fuse(old, slot_dtype=slot_dtype)


@pytest.mark.parametrize("mode", ["exact", "eventual"])
@pytest.mark.parametrize("slot_dtype", ["float32", "int8"])
def test_rows_that_lie_behind_are_brought_up_to_date(mode, slot_dtype):
    ids = [[0, 1], [2, 3], [0, 0], [3, 1]]
    slots = []
    for each in ("dense", mode):
        table = tf.Variable(np.linspace(-1, 1, 80).reshape(10, 8), dtype="float32")
        optimizer = tf_optim.Adam(
            0.1,
            sparse_update=each,
            slot_dtype={"": slot_dtype},
            stochastic_rounding=None if slot_dtype == "float32" else False,
        )
        optimizer.build([table])
        for batch in ids:
            rows = tf_optim.lookup(table, batch) if each == "exact" else table[:2]
            slices = models.slices(batch, tf.ones_like(rows), 10)
            optimizer.apply_gradients([(slices, table)])
        slots.append(values(tf_optim.unfuse(optimizer).variables))
    assert_same(*slots, 0.05 if slot_dtype == "int8" else CLOSE)


def test_optimizer_that_we_do_not_have():
    class Mine(tf.keras.optimizers.Adam):
        pass

    strangers = [Mine(), "adam", None]
    if flavours.LEGACY:
        strangers.append(tf.keras.optimizers.legacy.Adam())
    wrap = tf.keras.mixed_precision.LossScaleOptimizer
    strangers.append(wrap(Mine()))
    for stranger in strangers:
        with pytest.raises(ValueError, match="`optimizer` must be one of") as error:
            tf_optim.fuse(stranger)
        for row in cases.OPTIMIZERS:
            is_ours = specs.SPECS[row.name].is_stocks_step
            if is_ours and hasattr(tf.keras.optimizers, row.name):
                assert f"tf.keras.optimizers.{row.name}" in str(error.value)
        received = getattr(stranger, "inner_optimizer", stranger)
        assert type(received).__name__ in str(error.value).split("Received")[1]
    with pytest.raises(ValueError, match="`optimizer` must be one of tf_optim"):
        tf_optim.unfuse(Mine())


@a_few
def test_what_is_there_already_is_returned_as_it_is(case):
    ours = models.ours(case, sparse_update="dense")
    assert tf_optim.fuse(ours) is ours
    assert tf_optim.fuse(ours, sparse_update="dense") is ours
    with pytest.raises(ValueError, match="`sparse_update` must be .*'dense'.*'lazy'"):
        tf_optim.fuse(ours, sparse_update="lazy")
    stock = models.stock(case)
    assert tf_optim.unfuse(stock) is stock


@a_few
def test_wrong_mode(case):
    with pytest.raises(ValueError, match="`sparse_update` must be .*'sloppy'"):
        tf_optim.fuse(models.stock(case), sparse_update="sloppy")


@a_few
@pytest.mark.filterwarnings("ignore:`decay`:DeprecationWarning")
def test_an_option_that_stock_has_not(case):
    with pytest.raises(ValueError, match="`decay` must be left out.*decay=0.5"):
        tf_optim.unfuse(models.ours(case, decay=0.5))
