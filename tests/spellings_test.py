"""Old spellings work in both flavours, and say what to write instead."""

import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import a_few, both_flavours, both_ways, richest
from tests.models import everything

pytestmark = both_flavours

SHAPES = ((4, 3), (3,))


def deprecated(text):
    return pytest.warns(DeprecationWarning, match=re.escape(text))


def make(case, **arguments):
    return getattr(tf_optim, case.name)(**{**case.arguments, **arguments})


def trained(optimizer, steps=5, graph=False, seed=1):
    variables = models.variables(SHAPES)
    models.train(
        optimizer, variables, models.gradients(steps, SHAPES, seed=seed), graph
    )
    return everything(variables, optimizer)


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@richest
def test_lr(case):
    with deprecated("`lr` is an old spelling: use `learning_rate`"):
        optimizer = make(case, lr=0.25, name="a")
    expected = make(case, learning_rate=0.25, name="a")
    assert optimizer.get_config() == expected.get_config()


@richest
def test_lr_beside_learning_rate_is_an_error(case):
    make_it = getattr(tf_optim, case.name)
    for call in (
        lambda: make_it(0.001, lr=0.25),
        lambda: make_it(learning_rate=0.25, lr=0.25),
    ):
        with pytest.raises(ValueError, match="only one of them.*Received: .*lr=0.25"):
            call()


@a_few
def test_lr_as_an_attribute(case):
    optimizer = make(case, learning_rate=0.25)
    with deprecated("`lr`"):
        assert float(optimizer.lr) == 0.25
    with deprecated("`lr`"):
        optimizer.lr = 0.5
    assert float(optimizer.learning_rate) == 0.5
    with pytest.raises(AttributeError):
        del optimizer.lr


@a_few
def test_a_warning_points_at_the_caller(case):
    with pytest.warns(DeprecationWarning) as caught:
        optimizer = getattr(tf_optim, case.name)(lr=0.25, decay=0.5)
        optimizer.lr = optimizer.lr * 2
    assert len(caught) == 4
    assert {warning.filename for warning in caught} == {__file__}


@a_few
def test_nothing_warns_without_an_old_spelling(case, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        trained(make(case, learning_rate=0.25))
        optimizer = make(case, learning_rate=0.25)
        type(optimizer).from_config(optimizer.get_config())
        tf.train.Checkpoint(o=optimizer).write(str(tmp_path / "state"))
        optimizer._trackable_children("savedmodel")
        model = models.compiled(models.classifier(), optimizer, "classes")
        callbacks = [
            tf.keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
            tf.keras.callbacks.ReduceLROnPlateau("loss"),
        ]
        x, y = models.classifier_data(16)
        with warnings.catch_warnings():
            # Of NumPy about Keras 3, in the data adapter.
            warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
            model.fit(x, y, verbose=0, callbacks=callbacks)


WITH_EPSILON = [case for case in cases.RICHEST if "epsilon" in case.optimizer.defaults]


# No Keras has taken None for theirs.
NEVER_NONE = {"AdamW", "Lamb", "ScheduleFreeAdamW"}
NEVER_NONE |= {c.name for c in WITH_EPSILON if not any(c.optimizer.in_stock)}


@pytest.mark.parametrize("case", WITH_EPSILON, ids=str)
def test_epsilon_none_is_the_backends(case):
    if case.name in NEVER_NONE:
        with pytest.raises(ValueError, match=r"`epsilon` must be .*epsilon=None"):
            make(case, epsilon=None)
        return
    before = tf.keras.backend.epsilon()
    try:
        tf.keras.backend.set_epsilon(1e-3)
        with deprecated("`epsilon=None` is an old spelling: it means epsilon=0.001"):
            optimizer = make(case, epsilon=None)
    finally:
        tf.keras.backend.set_epsilon(before)
    assert optimizer.epsilon == 1e-3
    assert optimizer.get_config()["epsilon"] == 1e-3


# --- decay


@both_ways
@richest
def test_decay_is_inverse_time_decay(case, graph):
    with deprecated("`decay` is an old spelling"):
        optimizer = make(case, learning_rate=0.1, decay=0.5)
    schedule = tf.keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 0.5)
    expected = make(case, learning_rate=schedule)
    variables, others = models.variables(SHAPES), models.variables(SHAPES)
    for each, var_list in ((optimizer, variables), (expected, others)):
        models.train(each, var_list, models.gradients(5, SHAPES), graph)
    for left, right in zip(variables, others, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)
    assert float(optimizer.learning_rate) == np.float32(0.1)


@a_few
def test_decay_goes_on_from_a_learning_rate_set_later(case):
    """The k-th step uses what `learning_rate` is then, divided by 1 + decay * k."""
    with deprecated("`decay`"):
        optimizer = make(case, learning_rate=0.1, decay=1.0)
    expected = make(case, learning_rate=0.1)
    variables, others = models.variables(SHAPES), models.variables(SHAPES)
    for k, grads in enumerate(models.gradients(4, SHAPES)):
        rate = 0.1 if k < 2 else 0.4
        optimizer.learning_rate = rate
        expected.learning_rate = rate / (1 + k)
        models.train(optimizer, variables, [grads])
        models.train(expected, others, [grads])
    for left, right in zip(variables, others, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


@a_few
def test_decay_is_in_the_configuration_and_checkpoints_go_on(case, tmp_path):
    with deprecated("`decay`"):
        optimizer = make(case, learning_rate=0.1, decay=0.5)
    config = optimizer.get_config()
    assert config["decay"] == 0.5
    with deprecated("`decay`"):
        again = type(optimizer).from_config(dict(config))
    assert again.get_config() == config
    variables, others = models.variables(SHAPES), models.variables(SHAPES, seed=9)
    models.train(optimizer, variables, models.gradients(3, SHAPES))
    path = tf.train.Checkpoint(o=optimizer, v=variables).write(str(tmp_path / "a"))
    again.build(others)
    tf.train.Checkpoint(o=again, v=others).read(path).assert_consumed()
    for each, var_list in ((optimizer, variables), (again, others)):
        models.train(each, var_list, models.gradients(3, SHAPES, seed=2))
    assert_same(everything(others, again), everything(variables, optimizer))


@a_few
def test_decay_of_zero_is_none(case):
    with deprecated("`decay`"):
        optimizer = make(case, decay=0.0, name="a")
    assert optimizer.get_config() == make(case, name="a").get_config()
    assert_same(trained(optimizer), trained(make(case)))


@a_few
@pytest.mark.filterwarnings("ignore:`decay`:DeprecationWarning")
def test_decay_of_a_schedule_is_an_error(case):
    schedule = tf.keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(ValueError, match="`learning_rate` must be a number.*decay=0.5"):
        make(case, learning_rate=schedule, decay=0.5)
    optimizer = make(case, decay=0.5)
    with pytest.raises(ValueError, match="`learning_rate` must be a number.*decay=0.5"):
        optimizer.learning_rate = schedule
    assert float(optimizer.learning_rate) > 0  # what it was


@a_few
@pytest.mark.filterwarnings("ignore:`decay`:DeprecationWarning")
@pytest.mark.parametrize("decay", [-0.1, float("nan"), float("inf"), "0.1", True])
def test_decay_out_of_range(case, decay):
    with pytest.raises(ValueError, match=f"`decay` must be .* >= 0.*decay={decay!r}"):
        make(case, decay=decay)


@a_few
@pytest.mark.filterwarnings("ignore:`decay`:DeprecationWarning")
def test_old_spellings_in_a_subclass_of_a_user(case):
    class Mine(getattr(tf_optim, case.name)):
        def __init__(self, speed=1.0, **kwargs):
            super().__init__(**kwargs)
            self.speed = speed

    with deprecated("`lr`"):
        optimizer = Mine(speed=2.0, lr=0.25, decay=0.5)
    assert (optimizer.speed, optimizer.decay) == (2.0, 0.5)
    assert float(optimizer.learning_rate) == 0.25


def test_nadams_table_of_momenta_is_made_once():
    """With schedule_decay=0.004 it has 256,003 powers: not in each eager step."""
    from tf_optim.optimizers import nadam

    case = next(case for case in cases.CASES if case.name == "Nadam")
    with deprecated("schedule_decay"):
        optimizer = make(case, schedule_decay=0.004)
    nadam._momenta.cache_clear()
    trained(optimizer, steps=4)
    assert nadam._momenta.cache_info().misses == 1
