"""Subclasses of a user's: what they override of stock's step is honoured or refused.

The oracle is the same subclass of the stock class.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import both_flavours, both_ways, keras_3_only

pytestmark = both_flavours

SHAPES = ((4, 3), (3,))


def _updating(base, change):
    """A class whose `update_step` changes the gradient first."""
    if flavours.LEGACY:

        class Updating(base):
            def update_step(self, gradient, variable):
                return super().update_step(change(gradient), variable)

    else:

        class Updating(base):
            def update_step(self, gradient, variable, learning_rate):
                super().update_step(change(gradient), variable, learning_rate)

    return Updating


def centralized(base):
    return _updating(base, lambda g: g - tf.reduce_mean(g))


def clipping_its_own_way(base):
    class Clipping(base):
        def _clip_gradients(self, grads):
            return [tf.sign(g) for g in super()._clip_gradients(grads)]

    return Clipping


def decaying_its_own_way(base):
    class Decaying(base):
        def _apply_weight_decay(self, variables):
            for variable in variables:
                variable.assign(0.9 * variable - 0.01)

    return Decaying


OPTIONS = (
    {},
    {"momentum": 0.9, "nesterov": True},
    {"clipnorm": 0.5, "weight_decay": 0.1},
    {"global_clipnorm": 0.5, "use_ema": True, "ema_momentum": 0.5},
    {"clipvalue": 0.2, "momentum": 0.5},
)
overriding = pytest.mark.parametrize(
    "subclass", [centralized, clipping_its_own_way, decaying_its_own_way]
)


def trained(optimizer, graph, sparse=False):
    variables = models.variables(SHAPES)
    optimizer.build(variables)
    steps = models.gradients(4, SHAPES)
    if sparse:
        ids = tf.constant([2, 0, 1, 3])
        steps = [[tf.IndexedSlices(g, ids, (4, 3)), b] for g, b in steps]
    models.train(optimizer, variables, steps, graph)
    return models.everything(variables, optimizer)


def assert_close(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@both_ways
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@overriding
def test_an_overridden_method_is_called_as_in_stock(subclass, options, graph):
    mine = trained(subclass(tf_optim.SGD)(0.1, **options), graph)
    stock = trained(subclass(tf.keras.optimizers.SGD)(0.1, **options), graph)
    assert_close(mine, stock)
    plain = trained(tf_optim.SGD(0.1, **options), graph)
    assert any(not np.allclose(a, b) for a, b in zip(mine, plain, strict=True))


@keras_3_only
@both_ways
@overriding
def test_an_overridden_method_beside_accumulation(subclass, graph):
    options = {"gradient_accumulation_steps": 2, "weight_decay": 0.1, "clipnorm": 1.0}
    mine = trained(subclass(tf_optim.SGD)(0.1, **options), graph)
    stock = trained(subclass(tf.keras.optimizers.SGD)(0.1, **options), graph)
    assert_close(mine, stock)


def test_update_step_may_be_the_objects_own():
    optimizer = tf_optim.SGD(1.0)
    seen = []
    optimizer.update_step = lambda *arguments: seen.append(arguments[1].name)
    models.train(optimizer, models.variables(SHAPES), models.gradients(1, SHAPES))
    assert len(seen) == 2


def test_a_formula_of_its_own_sees_sparse_gradients():
    """`update_step` without `super`: the class does all of the update."""

    class Halving(tf_optim.SGD):
        def update_step(self, gradient, variable, *_):
            assert isinstance(gradient, tf.IndexedSlices)
            variable.scatter_sub(tf.IndexedSlices(gradient.values, gradient.indices))

    table = tf.Variable(tf.ones([3, 2]))
    gradient = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([1]), tf.constant([3, 2]))
    Halving(0.1).apply_gradients([(gradient, table)])
    np.testing.assert_array_equal(table, [[1, 1], [0, 0], [1, 1]])


def test_an_update_of_its_own_has_one_learning_rate():
    class Plain(tf_optim.SGD):
        def update_step(self, *arguments):
            pass

    with pytest.raises(TypeError, match="learning_rate_multipliers.*Plain"):
        Plain(0.1, learning_rate_multipliers={"a": 0.5})
    assert Plain(0.1).learning_rate_multipliers == {}


@both_ways
def test_update_step_called_by_hand_is_the_fused_update(graph):
    """By a loop of a user's, and by a subclass."""
    optimizers = [tf_optim.Adam(0.1, weight_decay=0.5, clipnorm=1e-3) for _ in range(2)]
    by_hand, applied = (models.variables(SHAPES) for _ in range(2))
    (grads,) = models.gradients(1, SHAPES)
    for optimizer, variables in zip(optimizers, (by_hand, applied), strict=True):
        optimizer.build(variables)
    rate = () if flavours.LEGACY else (optimizers[0].learning_rate,)

    def step():
        for gradient, variable in zip(grads, by_hand, strict=True):
            optimizers[0].update_step(gradient, variable, *rate)

    (tf.function(step) if graph else step)()
    optimizers[1].weight_decay = optimizers[1].clipnorm = None
    models.train(optimizers[1], applied, [grads])
    assert_close(by_hand, applied)
    assert int(optimizers[0].iterations) == 0


@both_ways
def test_a_failing_update_step_is_not_counted(graph):
    optimizer = centralized(tf_optim.SGD)(0.1)
    table = tf.Variable(tf.ones([3, 2]))
    optimizer.build([table])

    def step(ids):
        gradient = tf.IndexedSlices(tf.ones([1, 2]), ids, tf.constant([3, 2]))
        optimizer.apply_gradients([(gradient, table)])

    step = tf.function(step) if graph else step
    optimizer.update_step = lambda gradient, variable, *rest: (
        type(optimizer).__mro__[1].update_step(optimizer, gradient, variable, *rest)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 3\)"):
        step(tf.constant([3]))
    assert int(optimizer.iterations) == 0
    np.testing.assert_array_equal(table, tf.ones([3, 2]))


REFUSED = [
    "_update_model_variables_moving_average",
    "assign_sub",
    "_backend_update_step",
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_fused_step_does_not_call_is_refused(name):
    cls = type("Mine", (tf_optim.Adam,), {name: lambda self, *_: None})
    with pytest.raises(TypeError, match=rf"must not override `{name}`.*Mine\.{name}"):
        cls(0.1)


def test_what_it_calls_anyway_is_not():
    class Mine(tf_optim.Adam):
        def build(self, var_list):
            super().build(var_list)

        def get_config(self):
            return {**super().get_config(), "more": 1}

        def _use_weight_decay(self, variable):
            return variable.shape.rank > 1

    variables = models.variables(SHAPES)
    zero = [tf.zeros(shape) for shape in SHAPES]
    before = [v.numpy() for v in variables]
    models.train(Mine(0.1, weight_decay=0.5), variables, [zero])
    np.testing.assert_allclose(variables[0], before[0] * (1 - 0.05), rtol=1e-6)
    np.testing.assert_array_equal(variables[1], before[1])
