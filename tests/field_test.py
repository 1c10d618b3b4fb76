"""What optimizers that Keras lacks have beyond a rule and its arguments."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import children, keras_numbers, models, torch_numbers
from tests.marks import both_flavours, both_ways
from tf_optim import base, keras_private

pytestmark = both_flavours

SHAPES = ((4, 3), (3,))


def trained(optimizer, steps=12, graph=False, rates=None):
    var_list = models.variables(SHAPES)
    grads = models.gradients(steps, SHAPES)
    if rates is None:
        models.train(optimizer, var_list, grads, graph)
    else:
        for rate, each in zip(rates, grads, strict=True):
            optimizer.learning_rate = rate
            models.train(optimizer, var_list, [each])
    return var_list


def values(var_list):
    return [v.numpy() for v in var_list]


def assert_close(left, right, rtol=1e-6):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def test_none_is_an_optimizer_of_keras_that_it_is_not():
    keras = tf.keras.optimizers
    assert not isinstance(tf_optim.RowWiseAdagrad(), keras.Adagrad)
    assert isinstance(tf_optim.Lamb(), getattr(keras, "Lamb", base.Optimizer))
    assert not isinstance(tf_optim.Lamb(), keras.Adam)
    for name in tf_optim.optimizers.__all__:
        cls = getattr(tf_optim, name)
        if issubclass(cls, base.Optimizer):
            assert not hasattr(keras, name)
            assert cls.__mro__[cls.__mro__.index(base.Optimizer) + 1] is keras.Optimizer


@both_ways
@pytest.mark.parametrize("warm", [0.0, 0.25])
def test_rectified_adam_grows_and_falls(warm, graph):
    """As TensorFlow Addons says: up to the full rate, then down to `min_lr`."""
    optimizer = tf_optim.RectifiedAdam(
        0.1, beta_2=0.9, total_steps=8, warmup_proportion=warm, min_lr=0.02
    )
    rates = []
    for step in range(1, 13):
        begin = 8 * warm
        if step <= begin:
            rates.append(0.1 * step / begin)
        else:
            way = min((step - begin) / (8 - begin), 1.0)
            rates.append(0.1 + (0.02 - 0.1) * way)
    plain = tf_optim.RectifiedAdam(0.1, beta_2=0.9)
    received = trained(optimizer, graph=graph)
    assert_close(values(received), values(trained(plain, rates=rates)))
    config = optimizer.get_config()
    assert type(optimizer).from_config(config).get_config() == config


def test_lazy_adam_is_adam_and_says_so():
    with pytest.warns(DeprecationWarning, match="use `tf_optim.Adam`") as caught:
        lazy = tf_optim.LazyAdam(0.1, beta_1=0.8)
    assert caught[0].filename == __file__
    assert isinstance(lazy, tf_optim.Adam) and lazy.sparse_update == "lazy"
    expected = values(trained(tf_optim.Adam(0.1, beta_1=0.8)))
    for mine, wanted in zip(values(trained(lazy)), expected, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def mean_of_schedule_free(steps, beta=0.9, rate=0.1, decays=(0.0, 0.0)):
    """x of the paper's algorithm 1, in float64, and the point between it and z."""
    z = [np.float64(v.numpy()) for v in models.variables(SHAPES)]
    x, squares = [v.copy() for v in z], [np.zeros_like(v) for v in z]
    for t, grads in enumerate(models.gradients(steps, SHAPES), 1):
        for i, grad in enumerate(grads):
            g = np.float64(grad.numpy())
            squares[i] = 0.999 * squares[i] + 0.001 * g**2
            y = (1 - beta) * z[i] + beta * x[i]
            z[i] = z[i] - rate * g / (np.sqrt(squares[i] / (1 - 0.999**t)) + 1e-8)
            z[i] = z[i] - rate * decays[i] * y
            x[i] = x[i] + (z[i] - x[i]) / t
    return x, [(1 - beta) * a + beta * b for a, b in zip(z, x, strict=True)]


@both_ways
@pytest.mark.parametrize("decays", [(0.0, 0.0), (0.5, 0.5), (0.5, 0.0)], ids=str)
def test_schedule_free_goes_to_its_mean_and_back(graph, decays):
    excluded = [f"v{i}" for i, decay in enumerate(decays) if decay != decays[0]]
    optimizer = tf_optim.ScheduleFreeAdamW(
        0.1, weight_decay=decays[0], exclude_from_weight_decay=excluded
    )
    var_list = trained(optimizer, graph=graph)
    mean, point = mean_of_schedule_free(12, decays=decays)
    assert_close(values(var_list), point, 1e-5)
    optimizer.evaluate_at_mean(var_list)
    assert_close(values(var_list), mean, 1e-5)
    with pytest.raises(ValueError, match="must be at p"):
        optimizer.apply_gradients([(tf.ones([3]), var_list[1])])
    with pytest.raises(ValueError, match="must be at p"):
        optimizer.evaluate_at_mean(var_list)
    optimizer.train_on(var_list)
    assert_close(values(var_list), point, 1e-5)
    with pytest.raises(ValueError, match="must be at x"):
        optimizer.train_on(var_list)
    models.train(optimizer, var_list, models.gradients(1, SHAPES))
    assert int(optimizer.iterations) == 13


def on_keras_gradients(of):
    optimizer = eval(f"of.{keras_numbers.LINE}", {"of": of})
    make = tf.keras.Variable if hasattr(tf.keras, "ops") else tf.Variable
    variables = [make(value) for value in torch_numbers.start()]
    optimizer.build(variables)

    @tf.function
    def step(*grads):
        optimizer.apply_gradients(zip(grads, variables, strict=True))

    for grads in torch_numbers.gradients():
        step(*map(tf.constant, grads))
    return values(variables)


def test_schedule_free_is_keras_where_keras_does_not_read_z_too_late():
    """100 steps by JAX, whose tensors do not change. TensorFlow's variable does."""
    stock = tf.keras.optimizers
    if importlib.util.find_spec("jax") and hasattr(stock, "ScheduleFreeAdamW"):
        with children.Child({"KERAS_BACKEND": "jax"}) as child:
            expected = child.call(keras_numbers.of_keras)
    else:
        expected = keras_numbers.recorded()
    mine = on_keras_gradients(tf_optim)
    for received, wanted in zip(mine, expected, strict=True):
        largest = np.max(np.abs(wanted))
        np.testing.assert_allclose(received, wanted, rtol=1e-5, atol=1e-5 * largest)
    if hasattr(stock, "ScheduleFreeAdamW"):
        late = on_keras_gradients(stock)
        differences = [np.abs(a - b) for a, b in zip(late, expected, strict=True)]
        assert all(np.max(difference) > 1e-3 for difference in differences)


def test_schedule_free_starts_where_the_variable_is():
    """Built within a function, too, as `fit` does. Keras' z is at 0 there."""
    moved = {}
    for of in (tf_optim, tf.keras.optimizers):
        if not hasattr(of, "ScheduleFreeAdamW"):
            continue
        optimizer, variable = of.ScheduleFreeAdamW(1e-9), tf.Variable([1.0, 2.0])
        step = tf.function(optimizer.apply_gradients)
        step([(tf.ones([2]), variable)])
        moved[of] = variable.numpy()
    np.testing.assert_allclose(moved.pop(tf_optim), [1.0, 2.0], rtol=1e-6)
    for of_keras in moved.values():
        np.testing.assert_allclose(of_keras, [0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", ["ScheduleFreeAdamW", "ASGD", "Prodigy"])
def test_fit_of_a_model_that_is_not_built(name):
    """Its variables are made where the slots are: in the function that `fit` traces."""
    x, trained = np.ones((4, 2), "float32"), []
    for is_built in (False, True):
        model = tf.keras.Sequential(
            [tf.keras.layers.Dense(1, kernel_initializer="ones")]
        )
        if is_built:
            model.build((None, 2))
        model.compile(getattr(tf_optim, name)(0.01), "mse")
        model.fit(x, x[:, :1], epochs=3, verbose=0)
        state = [v.numpy() for v in model.optimizer.variables if "rate" not in v.name]
        trained.append([*model.get_weights(), *state])
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_decay_of_schedule_free_in_long_training():
    """The mean of all z comes to the minimum of loss and decay, and z stays by it."""
    optimizer = tf_optim.ScheduleFreeAdamW(0.01, weight_decay=0.5)
    variable = tf.Variable(3.0, dtype="float64")

    @tf.function
    def train(steps):
        for _ in tf.range(steps):
            optimizer.apply_gradients([(variable - 1.0, variable)])

    train(3000)
    momentum = keras_private.slots_of(optimizer, variable)[0]
    assert abs(momentum - variable) < 0.1
    optimizer.evaluate_at_mean([variable])
    assert 0.8 < variable < 1.05


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_exact_schedule_free_decays_as_the_dense_one(decay):
    results = []
    for mode in ("exact", "dense"):
        tables = models.variables(((5, 2), (5, 3)), "float64")
        optimizer = tf_optim.ScheduleFreeAdamW(
            0.1,
            weight_decay=decay,
            exclude_from_weight_decay=["v1"],
            sparse_update=mode,
        )
        for ids in ([0, 1], [2, 1], [1, 1], [3, 1], [0, 2]):
            pairs = []
            for table in tables:
                rows = tf_optim.lookup(table, ids)
                pairs.append((models.slices(ids, rows - 0.3, 5), table))
            optimizer.apply_gradients(pairs)
        optimizer.catch_up()
        results.append([*values(tables), *map(np.asarray, optimizer.variables)])
    for exact, dense in zip(*results, strict=True):
        np.testing.assert_allclose(exact, dense, rtol=1e-9, atol=1e-12)


def test_schedule_free_takes_no_step_at_its_mean_by_a_function_traced_before():
    optimizer = tf_optim.ScheduleFreeAdamW(0.1)
    variable = tf.Variable([1.0, 2.0])
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply_gradients([(tf.ones([2]), variable)]))
    step()
    optimizer.evaluate_at_mean([variable])
    before = variable.numpy(), int(optimizer.iterations)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be at p"):
        step()
    np.testing.assert_array_equal(variable, before[0])
    assert int(optimizer.iterations) == before[1]


def test_schedule_free_is_at_its_mean_in_a_model_that_was_saved_there(tmp_path):
    model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)])
    model.compile(tf_optim.ScheduleFreeAdamW(0.1), "mse")
    x = np.ones((8, 2), "float32")
    model.fit(x, x[:, :1], epochs=3, verbose=0)
    at_p = model.get_weights()
    model.optimizer.evaluate_at_mean(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    loaded.optimizer.train_on(loaded.trainable_variables)
    for one, other in zip(at_p, loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    at_x, weights = model.get_weights(), tmp_path / "model.weights.h5"
    model.save_weights(weights)
    if not keras_private.is_keras_3():
        return  # its weights are the model's alone
    loaded.load_weights(weights)
    with pytest.raises(ValueError, match="must be at p"):
        loaded.optimizer.evaluate_at_mean(loaded.trainable_variables)
    for one, other in zip(at_x, loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model.optimizer.train_on(model.trainable_variables)
    model.save_weights(weights)
    loaded.load_weights(weights)
    loaded.fit(x, x[:, :1], verbose=0)


def test_a_checkpoint_is_restored_before_fit_makes_the_slots(tmp_path):
    """z is restored: it is not set to the variable, as it is where nothing was."""
    x, path, states = np.ones((4, 2), "float32"), str(tmp_path / "state"), []
    for restores, is_built in ((False, True), (True, True), (True, False)):
        ones = tf.keras.layers.Dense(1, kernel_initializer="ones")
        model = tf.keras.Sequential([ones])
        if is_built:
            model.build((None, 2))
        model.compile(tf_optim.ScheduleFreeAdamW(0.1), "mse")
        checkpoint = tf.train.Checkpoint(optimizer=model.optimizer)  # not the model
        if restores:
            checkpoint.read(path)
        model.fit(x, x[:, :1], epochs=2, verbose=0)
        if not restores:
            checkpoint.write(path)
        variables = [*model.trainable_variables, *model.optimizer.variables]
        states.append([np.asarray(v) for v in variables])
    for one, other in zip(*states[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_slot_that_starts_at_a_variable_needs_its_value():
    made = []

    @tf.function
    def step(initial):
        if not made:
            made.append(tf.Variable(initial))
            made.append(tf_optim.ScheduleFreeAdamW(0.1))
        made[1].apply_gradients([(tf.ones([3]), made[0])])

    with pytest.raises(tf.errors.InvalidArgumentError, match="must have a value bef"):
        step(tf.ones([3]))
    np.testing.assert_array_equal(made[0], tf.ones([3]))
    assert int(made[1].iterations) == 0


@pytest.mark.parametrize("name", ["ScheduleFreeAdamW", "ASGD", "Adam"])
def test_a_checkpoint_is_restored_before_slots_are_made(name, tmp_path):
    """Those that start at the variable have another value by then."""
    path = str(tmp_path / "state")
    make = getattr(tf_optim, name)
    first, old = tf.Variable([1.0, 2.0]), make(0.1)
    for _ in range(4):
        old.apply_gradients([(first * 1.0, first)])
    tf.train.Checkpoint(v=first, o=old).write(path)
    second, new = tf.Variable([0.0, 0.0]), make(0.1)
    status = tf.train.Checkpoint(v=second, o=new).read(path)
    new.build([second])
    status.assert_consumed()
    for one, other in zip(old.variables, new.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_schedule_free_has_no_mean_without_beta_1():
    optimizer = tf_optim.ScheduleFreeAdamW(beta_1=0.0)
    var_list = trained(optimizer, 1)
    with pytest.raises(ValueError, match="`beta_1` must be > 0"):
        optimizer.evaluate_at_mean(var_list)


def test_asgd_assigns_the_mean_of_where_it_has_been():
    optimizer = tf_optim.ASGD(0.1, t0=3.0)
    var_list, seen = models.variables(SHAPES), []
    for grads in models.gradients(9, SHAPES):
        models.train(optimizer, var_list, [grads])
        seen.append(values(var_list))
    optimizer.assign_means(var_list)
    # Step 5 is the first that is mixed with those before: mu is 1 until then.
    expected = [np.mean([each[i] for each in seen[4:]], axis=0) for i in (0, 1)]
    assert_close(values(var_list), expected, 1e-5)


def test_rprop_shortens_and_lengthens_its_steps():
    optimizer = tf_optim.Rprop(0.1, min_step=0.05, max_step=0.13)
    var, lengths = tf.Variable([0.0]), []
    for sign in (1, 1, 1, -1, 1, -1, -1):
        before = var.numpy()[0]
        optimizer.apply_gradients([(tf.constant([float(sign)]), var)])
        lengths.append(before - var.numpy()[0])
    # Longer, at its longest, then none and half as long after each turn.
    expected = [0.1, 0.12, 0.13, 0.0, 0.065, 0.0, -0.05]
    np.testing.assert_allclose(lengths, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", (2.0**-90, 2.0**70))
def test_cocob_does_not_look_at_the_scale_of_gradients(scale):
    """Here its square is no float. Powers of 2 leave all bits as they were."""
    results = []
    for factor in (1.0, scale):
        var_list = models.variables(SHAPES)
        grads = [[g * factor for g in each] for each in models.gradients(9, SHAPES)]
        models.train(tf_optim.COCOB(), var_list, grads)
        results.append(values(var_list))
    for left, right in zip(*results, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("mode", ("lazy", "dense", "exact"))
def test_cocob_moves_what_had_a_gradient(mode):
    table = tf.Variable(tf.ones([5, 2]))
    optimizer = tf_optim.COCOB(0.5, alpha=4.0, sparse_update=mode)
    for row, gradient in ((1, [3.0, -0.1]), (4, [0.0, 0.0]), (1, [0.0, 0.0])):
        rows = tf.IndexedSlices(tf.constant([gradient]), tf.constant([row]))
        optimizer.apply_gradients([(rows, table)])
    expected = np.ones((5, 2))
    expected[1] += [-0.5 / 4, 0.5 / 4]  # the first step, whatever the gradient
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-6)


def test_schedule_free_moves_all_variables_or_none():
    optimizer = tf_optim.ScheduleFreeAdamW(0.1)
    var_list = trained(optimizer)
    before, stranger = values(var_list), tf.Variable(1.0)
    with pytest.raises((ValueError, KeyError), match="Unknown variable"):
        optimizer.evaluate_at_mean([*var_list, stranger])
    assert_close(values(var_list), before, 0)
    models.train(optimizer, var_list, models.gradients(1, SHAPES))  # still at p
    optimizer.evaluate_at_mean(iter(var_list))
    at_mean = values(var_list)
    with pytest.raises((ValueError, KeyError), match="Unknown variable"):
        optimizer.train_on([*var_list, stranger])
    assert_close(values(var_list), at_mean, 0)
    optimizer.train_on(var_list)
