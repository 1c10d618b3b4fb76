"""Dense training with ours follows stock Keras, in both flavours.

Stock computes beta ** t in float32, where beta_2 = 0.999 is already off by 1.3e-5
of 1 - beta_2: its first Adam steps are wrong by up to 7e-6 of the step. So rtol
1e-5 is as close as parity can be tested, and atol covers elements that pass near
zero: 1e-5 of the largest of a variable or slot.
"""

import inspect
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, flavours, models
from tests.marks import (
    both_ways,
    every,
    every_stock_case,
    keras_3_only,
    stock_few,
    stock_kinds,
    stock_richest,
)

pytestmark = pytest.mark.both_flavours

STEPS = 100
DIGITS = "0123456789"
RTOL = 1e-5


def assert_close(left, right, times=1):
    for a, b in zip(left, right, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        largest = np.max(np.abs(b), initial=0.0)
        np.testing.assert_allclose(a, b, rtol=times * RTOL, atol=times * RTOL * largest)


def assert_moved(after, times):
    """Far enough that a step of half the size would not be close.

    Some element of each variable, 100 times as far as it may be off.
    """
    for old, new in zip(models.variables(), after, strict=True):
        moved = np.max(np.abs(new.numpy() - old.numpy()))
        assert moved > 100 * times * RTOL * np.max(np.abs(new.numpy()))


def oracle_in_graph(case):
    return not (flavours.LEGACY and case.optimizer.wrong_in_graph)


def assert_parity(case, steps=10, graph=True, learning_rate=None, **arguments):
    """Both makes on the same gradients; returns ours for further questions."""
    rate = case.optimizer.learning_rate if learning_rate is None else learning_rate
    results = []
    for make in (models.stock, models.ours):
        var_list = models.variables()
        optimizer = make(case, rate, **arguments)
        # Stock is the oracle, in the quicker of its two ways.
        in_graph = oracle_in_graph(case) if make is models.stock else graph
        models.train(optimizer, var_list, models.gradients(steps), in_graph)
        results.append((var_list, optimizer))
    (theirs, their_optimizer), (mine, my_optimizer) = results
    times = case.optimizer.parity
    assert_moved(theirs, times)
    assert_close(mine, theirs, times)
    assert_close(models.state(my_optimizer), models.state(their_optimizer), times)
    assert int(my_optimizer.iterations) == int(their_optimizer.iterations)
    return my_optimizer


@every("case", "flavour")
@both_ways
@every_stock_case
def test_100_steps(case, graph):
    assert_parity(case, STEPS, graph)


@every_stock_case
def test_arguments_left_out_are_stocks(case):
    """AdamW decays by default."""
    results = []
    for room in (tf.keras.optimizers, models.tf_optim):
        var_list = models.variables()
        optimizer = getattr(room, case.name)()
        models.train(optimizer, var_list, models.gradients(10))
        results.append([*var_list, *models.state(optimizer)])
    assert_close(results[1], results[0], case.optimizer.parity)
    if case.name == "AdamW":
        others = models.variables()
        models.train(models.tf_optim.Adam(), others, models.gradients(10))
        shrunk = np.abs(others[0]) - np.abs(results[1][0])
        assert np.min(shrunk / np.abs(others[0])) > 2e-5  # 10 steps of 0.001 * 0.004


@stock_richest
@pytest.mark.parametrize(
    "clip", [{"clipvalue": 0.5}, {"clipnorm": 0.8}, {"global_clipnorm": 1.1}], ids=str
)
def test_clipping(case, clip):
    assert_parity(case, **clip)


@stock_kinds
def test_clipping_is_off_below_its_bound(case):
    """A bound that no gradient reaches changes no bit."""
    results = []
    for arguments in ({}, {"clipnorm": 2.0**20}, {"global_clipnorm": 2.0**20}):
        var_list = models.variables()
        models.train(models.ours(case, **arguments), var_list, models.gradients(5))
        results.append([v.numpy().tobytes() for v in var_list])
    assert results[0] == results[1] == results[2]


@stock_richest
def test_weight_decay(case):
    assert_parity(case, weight_decay=0.1)


@stock_kinds
@pytest.mark.parametrize("by", ["var_list", "var_names"])
def test_weight_decay_leaves_out_what_is_excluded(case, by):
    models.skip_where_stock_is_wrong(case)
    results = []
    for make in (models.stock, models.ours):
        var_list = models.variables()
        optimizer = make(case, weight_decay=0.1)
        excluded = {"var_list": [var_list[1]], "var_names": ["v1"]}
        optimizer.exclude_from_weight_decay(**{by: excluded[by]})
        models.train(optimizer, var_list, models.gradients(10), graph=True)
        results.append(var_list)
    assert_close(results[1], results[0])
    plain = models.variables()
    models.train(models.ours(case), plain, models.gradients(10), graph=True)
    assert np.array_equal(results[1][1], plain[1])
    assert not np.allclose(results[1][0], plain[0])


@stock_kinds
@pytest.mark.parametrize(
    "schedule",
    [
        lambda s, rate: s.ExponentialDecay(2 * rate, 5, 0.5),
        lambda s, rate: s.PiecewiseConstantDecay([3, 9], [3 * rate, rate, rate / 9]),
        lambda s, rate: s.CosineDecay(2 * rate, 15),
    ],
    ids=["exponential", "piecewise", "cosine"],
)
def test_learning_rate_schedule(case, schedule):
    rate = schedule(tf.keras.optimizers.schedules, case.optimizer.learning_rate)
    assert_parity(case, learning_rate=rate)
    assert_parity(case, learning_rate=rate, weight_decay=0.1)


@stock_kinds
def test_learning_rate_callable(case):
    rate = tf.Variable(2 * case.optimizer.learning_rate)
    assert_parity(case, learning_rate=lambda: rate * 0.5)
    if not flavours.LEGACY:  # tf_keras calls it once, when it is made
        var = tf.Variable([1.0])
        optimizer = models.ours(case, learning_rate=lambda: rate * 0.5)
        optimizer.apply_gradients([(tf.constant([1.0]), var)])
        before = var.numpy()
        rate.assign(0.0)
        optimizer.apply_gradients([(tf.constant([1.0]), var)])
        if not case.arguments.get("momentum") and case.name != "Ftrl":
            np.testing.assert_array_equal(var, before)


@both_ways
@stock_kinds
def test_setting_the_learning_rate(case, graph):
    results = []
    for make in (models.stock, models.ours):
        var_list, optimizer = models.variables(), make(case)
        grads = models.gradients(10)
        in_graph = graph and (make is models.ours or oracle_in_graph(case))
        step = models.train(optimizer, var_list, grads[:5], in_graph)
        optimizer.learning_rate = 0.3 * case.optimizer.learning_rate
        for each in grads[5:]:
            step(each)
        results.append(var_list)
    assert_close(results[1], results[0])


@every_stock_case
def test_no_retrace_after_the_first_step(case):
    var_list = models.variables()
    optimizer = models.ours(case)
    step = models.train(optimizer, var_list, models.gradients(1), graph=True)
    first = step.experimental_get_tracing_count()
    for grads in models.gradients(4):
        step(grads)
    optimizer.learning_rate = 0.5
    step(models.gradients(1)[0])
    assert step.experimental_get_tracing_count() == first
    assert int(optimizer.iterations) == 6


@stock_few
def test_compile_fit_evaluate(case):
    models.skip_where_stock_is_wrong(case)
    x, y = models.classifier_data()
    results = []
    for make in (models.stock, models.ours):
        model = models.compiled(
            models.classifier(), make(case), "classes", metrics=["accuracy"]
        )
        history = model.fit(x, y, batch_size=16, epochs=5, shuffle=False, verbose=0)
        results.append((history.history["loss"], model.evaluate(x, y, verbose=0)))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-4)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-4)
    assert results[1][0][-1] < results[1][0][0]


@stock_few
def test_fit_with_an_embedding(case):
    """Where stock is right on IndexedSlices: each id once, every row decayed."""
    models.skip_where_stock_is_wrong(case)
    x, y = models.recommender_data()
    results = []
    for make in (models.stock, models.ours):
        extra = {"sparse_update": "dense"} if make is models.ours else {}
        model = models.compiled(models.recommender(), make(case, **extra))
        model.fit(x, y, batch_size=16, epochs=8, verbose=0)
        results.append(model.get_weights())
    assert_close(results[1], results[0])


@stock_few
def test_fit_with_repeated_ids_lowers_the_loss(case):
    x, y = models.recommender_data(unique=False)
    for mode in ("lazy", "dense"):
        model = models.compiled(
            models.recommender(),
            models.ours(case, case.optimizer.learning_rate, sparse_update=mode),
        )
        loss = model.fit(x, y, batch_size=16, epochs=20, verbose=0).history["loss"]
        assert loss[-1] < 0.9 * loss[0]


@stock_kinds
def test_gradient_none_is_left_out_with_the_stock_warning(case, caplog):
    results = []
    for make in (models.stock, models.ours):
        var_list, optimizer = models.variables(), make(case)
        before = var_list[1].numpy()
        caplog.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for grads in models.gradients(3):
                grads[1] = None
                optimizer.apply_gradients(zip(grads, var_list, strict=True))
        assert np.array_equal(var_list[1], before)
        said = [str(w.message) for w in caught] + caplog.messages  # tf_keras logs
        assert any("Gradients do not exist for variables" in text for text in said)
        results.append(var_list)
    assert_close(results[1], results[0])


@stock_kinds
def test_no_gradient_at_all_is_an_error(case):
    with pytest.raises(ValueError, match="No gradients provided"):
        models.ours(case).apply_gradients([(None, tf.Variable([1.0]))])


@both_ways
@stock_kinds
def test_use_ema(case, graph):
    # tf_keras' RMSprop overwrites every 100 steps unless told otherwise.
    for frequency in (None, 3):
        assert_parity(
            case,
            steps=7,
            graph=graph,
            use_ema=True,
            ema_momentum=0.9,
            ema_overwrite_frequency=frequency,
        )


@stock_kinds
def test_finalize_variable_values_are_the_averages(case):
    results = []
    for make in (models.stock, models.ours):
        var_list = models.variables()
        optimizer = make(case, use_ema=True, ema_momentum=0.5)
        models.train(optimizer, var_list, models.gradients(3))
        trained = [v.numpy() for v in var_list]
        averages = [v.numpy() for v in optimizer._model_variables_moving_average]
        optimizer.finalize_variable_values(var_list)
        for variable, average, before in zip(var_list, averages, trained, strict=True):
            np.testing.assert_array_equal(variable, average)
            assert not np.array_equal(variable, before)
        results.append(averages)
    assert_close(results[1], results[0], case.optimizer.parity)


@keras_3_only
@stock_kinds
def test_loss_scale_factor(case):
    optimizer = assert_parity(case, loss_scale_factor=16.0)
    assert float(optimizer.scale_loss(tf.constant(2.0))) == 32.0
    assert_parity(case, loss_scale_factor=8.0, clipvalue=0.05, weight_decay=0.1)
    assert_parity(case, loss_scale_factor=8.0, global_clipnorm=0.1)


@keras_3_only
@both_ways
@stock_kinds
def test_gradient_accumulation(case, graph):
    """Seven steps of three: the last accumulation is left unfinished."""
    assert_parity(case, 7, graph, gradient_accumulation_steps=3)
    assert_parity(case, 7, graph, gradient_accumulation_steps=2, clipnorm=0.5)


@stock_richest
def test_variable_constraint(case):
    results = []
    for make in (models.stock, models.ours):
        var = tf.Variable([0.01, 2.0], constraint=lambda v: tf.maximum(v, 0.0))
        optimizer = make(case, max(0.1, case.optimizer.learning_rate))
        for _ in range(3):
            optimizer.apply_gradients([(tf.constant([1.0, 1.0]), var)])
        results.append(var.numpy())
    assert results[1][0] == 0.0
    assert_close(results[1:], results[:1])


@every()
@every_stock_case
def test_slots_are_stock_slots(case):
    """Same names, order, shapes and types: checkpoints depend on it."""
    seen = []
    for make in (models.stock, models.ours):
        optimizer = make(case)
        models.train(optimizer, models.variables(), models.gradients(1))
        prefix = optimizer.name
        seen.append(
            [
                # Some are numbered through the whole process.
                (v.name.removeprefix(prefix).rstrip(DIGITS), tuple(v.shape), v.dtype)
                for v in optimizer.variables
            ]
        )
    assert seen[0] == seen[1]


def test_arguments_and_defaults_are_stock_and_sparse_update():
    for row in {case.name: case.optimizer for case in cases.STOCK_CASES}.values():
        stock = getattr(tf.keras.optimizers, row.name, None)
        if stock is None:
            assert flavours.LEGACY and not row.in_stock[1]
            continue
        make = getattr(models.tf_optim, row.name)
        theirs, mine = (inspect.signature(each).parameters for each in (stock, make))
        assert mine["sparse_update"].default == "lazy"
        for name, parameter in theirs.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD or name == "name":
                continue
            if name in mine:
                assert mine[name].default == parameter.default, (row.name, name)
            elif name not in ("jit_compile", "adaptive_epsilon"):  # ours has neither
                # Through `**kwargs` to stock's own constructor.
                for optimizer in (make(), make(**{name: parameter.default})):
                    value = optimizer.get_config()[name]
                    assert value == parameter.default, (row.name, name)
        for name, default in row.defaults.items():
            assert mine[name].default == default, (row.name, name)
