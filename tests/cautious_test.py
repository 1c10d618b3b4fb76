"""`cautious=True`: who takes it, what it does, and where it is refused.

That each rule's cautious step is the reference's is in the tests of all cases
(tests/cases.py has a cautious one for each).
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import both_flavours, keras_3_only

pytestmark = both_flavours
CAUTIOUS = [case for case in cases.CASES if case.is_cautious]
NEEDS_MOMENTUM = {"SGD", "RMSprop"}


def test_formula():
    """One element's step goes against its gradient: the two others' are longer."""
    optimizer = tf_optim.SGD(0.1, momentum=0.5, cautious=True)
    var = tf.Variable([1.0, 1.0, 1.0])
    optimizer.apply_gradients([(tf.constant([1.0, 1.0, 1.0]), var)])
    np.testing.assert_allclose(var, [0.9, 0.9, 0.9], rtol=1e-6)
    optimizer.apply_gradients([(tf.constant([1.0, -0.1, 2.0]), var)])
    # The momenta are -0.15, -0.04 and -0.25.
    np.testing.assert_allclose(
        var, [0.9 - 0.15 * 1.5, 0.9, 0.9 - 0.25 * 1.5], rtol=1e-6
    )


def test_nothing_agrees():
    optimizer = tf_optim.SGD(0.1, momentum=0.9, cautious=True, weight_decay=0.1)
    var = tf.Variable([1.0, -1.0])
    optimizer.apply_gradients([(tf.constant([10.0, -10.0]), var)])
    before = var.numpy()
    optimizer.apply_gradients([(tf.constant([-0.1, 0.0]), var)])
    np.testing.assert_allclose(var, before * 0.99, rtol=1e-6)  # the decay alone


@pytest.mark.filterwarnings("ignore:`LazyAdam`:DeprecationWarning")
def test_who_takes_it():
    """Those of the table, and no other; of SGD and RMSprop, with momentum."""
    takes = {case.name for case in CAUTIOUS} | {"LazyAdam"}
    for name in tf_optim.optimizers.__all__:
        cls = getattr(tf_optim, name)
        if name not in takes:
            with pytest.raises(ValueError, match=f"must be False: {name} has no"):
                cls(cautious=True)
        elif name in NEEDS_MOMENTUM:
            with pytest.raises(ValueError, match="as long as `momentum` is 0"):
                cls(cautious=True)
            assert cls(momentum=0.9, cautious=True).cautious is True
        else:
            assert cls(cautious=True).cautious is True


def test_the_argument():
    with pytest.raises(ValueError, match="`cautious` must be True or False. Rec"):
        tf_optim.Adam(cautious="yes")
    optimizer = tf_optim.Lion(cautious=True)
    config = optimizer.get_config()
    assert config["cautious"] is True
    assert tf_optim.Lion.from_config(config).cautious is True
    assert "cautious" not in tf_optim.Lion().get_config()
    optimizer.cautious = False
    assert "cautious" not in optimizer.get_config()
    with pytest.raises(ValueError, match="`cautious` must be left out"):
        tf_optim.unfuse(tf_optim.Adam(cautious=True))


def test_an_overridden_update_step_is_not_ours_to_change():
    class Own(tf_optim.Adam):
        def update_step(self, gradient, variable, learning_rate=None):
            variable.assign_sub(0.1 * gradient)

    with pytest.raises(TypeError, match="`cautious` must be False for a subclass"):
        Own(cautious=True)
    optimizer = Own()
    optimizer.cautious = True
    var = tf.Variable([1.0])
    with pytest.raises(TypeError, match="Received: Own with cautious=True"):
        optimizer.apply_gradients([(tf.constant([1.0]), var)])
    assert var.numpy() == 1.0


def test_momentum_that_is_switched_off():
    optimizer = tf_optim.SGD(0.1, momentum=0.9, cautious=True)
    var = tf.Variable([1.0])
    optimizer.apply_gradients([(tf.constant([1.0]), var)])
    optimizer.momentum = 0.0
    with pytest.raises(ValueError, match="SGD has no momentum as long"):
        optimizer.apply_gradients([(tf.constant([1.0]), var)])


def test_switched_on_and_off():
    """What it is when a step is taken counts; slots are those of any step."""
    plain, other = tf_optim.Adam(0.1), tf_optim.Adam(0.1, cautious=True)
    other.cautious = False
    results = []
    for optimizer in (plain, other):
        var_list = models.variables()
        models.train(optimizer, var_list, models.gradients(3))
        optimizer.cautious = True
        models.train(optimizer, var_list, models.gradients(3, seed=2))
        results.append([v.numpy() for v in var_list])
    for left, right in zip(*results, strict=True):
        np.testing.assert_array_equal(left, right)
    optimizer = tf_optim.Adam(0.1)
    var_list = models.variables()
    models.train(optimizer, var_list, models.gradients(3))
    models.train(optimizer, var_list, models.gradients(3, seed=2))
    assert not np.allclose(var_list[0], results[0][0])


@pytest.mark.parametrize("case", CAUTIOUS, ids=str)
def test_of_a_function_and_compiled(case):
    """The same step in each way of calling."""
    results = []
    for jit in (None, False, True):
        optimizer, var_list = models.ours(case), models.variables()
        table = tf.Variable(np.linspace(-1, 1, 60).reshape(20, 3), dtype="float32")
        var_list.append(table)

        def step(grads, ids, rows, optimizer=optimizer, var_list=var_list):
            sparse = models.slices(ids, rows, 20)
            optimizer.apply_gradients(zip([*grads, sparse], var_list, strict=True))

        if jit is not None:
            optimizer.build(var_list)
            step = tf.function(step, jit_compile=jit)
        rng = np.random.default_rng(3)
        for grads in models.gradients(4):
            ids = rng.integers(0, 20, 8)
            rows = tf.constant(rng.normal(size=(8, 3)), tf.float32)
            step(grads, tf.constant(ids), rows)
        results.append([v.numpy() for v in var_list])
    for eager, *others in zip(*results, strict=True):
        for other in others:
            np.testing.assert_allclose(other, eager, rtol=1e-6, atol=1e-7)


@keras_3_only
def test_fit_saves_and_goes_on(tmp_path):
    data = models.classifier_data()
    model = models.compiled(
        models.classifier(), tf_optim.AdamW(0.01, cautious=True), "classes"
    )
    model.fit(*data, epochs=1, verbose=0, shuffle=False)
    model.save(tmp_path / "m.keras")
    again = tf.keras.models.load_model(tmp_path / "m.keras")
    assert again.optimizer.cautious is True
    for each in (model, again):
        each.fit(*data, epochs=1, verbose=0, shuffle=False)
    for left, right in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_explain_counts_two_passes():
    """Of a variable that does not fit into a cache."""
    table = tf.Variable(tf.zeros([5_000_000]))
    moved = []
    for cautious in (False, True):
        optimizer = tf_optim.SGD(0.1, momentum=0.9, cautious=cautious)
        optimizer.build([table])
        (said,) = tf_optim.explain(optimizer).rows
        moved.append(said.bytes_per_step)
    assert moved == [20 * 5_000_000, 28 * 5_000_000]
