"""Clipping: no graph holds a number that is not finite, and float64 stays float64."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, flavours, models
from tests.marks import a_few, both_flavours, both_ways, richest

pytestmark = both_flavours

CLIPS = ({}, {"clipvalue": 0.3}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5})
every_clip = pytest.mark.parametrize("clip", CLIPS, ids=str)
norms = pytest.mark.parametrize("clip", CLIPS[2:], ids=str)


@pytest.fixture
def checked_numerics():
    """TensorFlow raises for each number that is not finite, wherever it is made."""
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


def optimizer_and_step(case, **options):
    """A table with a sparse gradient, and others with dense ones."""
    var_list = [tf.Variable(tf.ones([6, 3])), *models.variables(((4,), ()), seed=1)]
    optimizer = models.ours(case, **options)
    optimizer.build(var_list)

    @tf.function
    def step(scale):
        rows = models.slices([4, 1, 4], tf.fill([3, 3], scale), 6)
        grads = [rows, tf.fill([4], scale), scale]
        optimizer.apply_gradients(zip(grads, var_list, strict=True))

    return var_list, step


def assert_healthy(case, **options):
    var_list, step = optimizer_and_step(case, **options)
    before = [v.numpy() for v in var_list]
    for scale in (2.0, 0.01, 0.0):
        step(tf.constant(scale))
    for variable, old in zip(var_list, before, strict=True):
        assert np.isfinite(variable.numpy()).all()
        assert not np.array_equal(variable.numpy(), old)


@every_clip
@a_few
def test_no_graph_holds_a_number_that_is_not_finite(case, clip, checked_numerics):
    assert_healthy(case, **clip)


@richest
def test_no_rule_holds_a_number_that_is_not_finite(case, checked_numerics):
    assert_healthy(case, weight_decay=0.1)


@a_few
def test_checked_numerics_see_what_is_not_finite(case, checked_numerics):
    """So the tests above can fail."""
    _, step = optimizer_and_step(case, global_clipnorm=0.5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Inf|NaN"):
        step(tf.constant(np.inf, tf.float32))


def sgd():
    return next(case for case in cases.CASES if case.name == "SGD" and not case.slots)


def clipped(make, grads, clip, graph=False):
    """What one step of SGD takes from variables of zeros."""
    var_list = [tf.Variable(tf.zeros(g.shape, g.dtype)) for g in grads]
    models.train(make(sgd(), 1.0, **clip), var_list, [grads], graph)
    return [-v.numpy() for v in var_list]


@both_ways
@norms
def test_float64_is_clipped_in_float64(clip, graph):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((50, 3), (7,))]
    grads = [tf.constant(a) for a in arrays]
    (bound,) = clip.values()
    wide = [np.float128(a) for a in arrays]
    squares = [np.sum(a * a) for a in wide]
    if "global_clipnorm" in clip:
        squares = [sum(squares)] * len(squares)
    results = clipped(models.ours, grads, clip, graph)
    for array, square, result in zip(wide, squares, results, strict=True):
        exact = array * (bound / np.sqrt(square))
        np.testing.assert_allclose(result, exact.astype(float), rtol=1e-15, atol=0)


@norms
def test_float64_beyond_float32_is_clipped_as_stock(clip):
    grads = [tf.constant([3e25, 4e25], tf.float64), tf.constant([1e25], tf.float64)]
    ours = clipped(models.ours, grads, clip)
    stock = clipped(models.stock, grads, clip)
    for left, right in zip(ours, stock, strict=True):
        assert np.all(left > 0.05)
        np.testing.assert_allclose(left, right, rtol=1e-15)


@norms
def test_sparse_float64_is_clipped_in_float64(clip):
    values = tf.constant([[3e25], [1e25], [3e25]], tf.float64)
    table = tf.Variable(tf.zeros([5, 1], tf.float64))
    optimizer = models.ours(sgd(), 1.0, **clip)
    optimizer.apply_gradients([(models.slices([2, 0, 2], values, 5), table)])
    norm = np.sqrt(37.0)
    expected = np.array([1.0, 0, 6, 0, 0]) * 0.5 / norm
    np.testing.assert_allclose(-table.numpy()[:, 0], expected, rtol=1e-15)


def test_an_infinite_norm_of_all_is_nan_for_all():
    """As in stock: a step that nobody takes for a good one."""
    grads = [tf.constant([np.inf, 1.0]), tf.constant([1.0])]
    for make in (models.ours, models.stock):
        for result in clipped(make, grads, {"global_clipnorm": 1.0}):
            assert np.isnan(result).all()


@both_ways
def test_dtypes_share_one_norm(graph):
    """The norm of all is computed in the widest type among them."""
    grads = [
        tf.constant([3e25], tf.float64),
        tf.constant([4.0], tf.float32),
        tf.constant([2.0], tf.float16),
    ]
    wide, narrow, half = clipped(models.ours, grads, {"global_clipnorm": 3.0}, graph)
    np.testing.assert_allclose(wide, [3.0], rtol=1e-15)
    np.testing.assert_allclose(narrow, [4e-25], rtol=1e-6)
    assert half == 0


def test_16_bits_do_not_overflow_their_norm():
    grads = [tf.fill([100], tf.constant(300.0, tf.float16))]  # squares beyond 65504
    (result,) = clipped(models.ours, grads, {"clipnorm": 5.0})
    np.testing.assert_allclose(result.astype(float), 0.5, rtol=1e-3)


@pytest.mark.skipif(flavours.LEGACY, reason="the same op")
def test_a_bound_of_infinity_is_none(checked_numerics):
    assert_healthy(sgd(), clipvalue=float("inf"))


@both_flavours
@pytest.mark.parametrize("option", ["clipnorm", "global_clipnorm"])
def test_an_id_that_xla_drops_has_no_part_in_the_norm(option):
    results = []
    for ids, rows in (([0, 2, -1], [[1.0], [7.0], [9.0]]), ([0], [[1.0]])):
        table = tf.Variable([[1.25], [1.5]])
        optimizer = tf_optim.SGD(1.0, **{option: 0.5})
        optimizer.build([table])

        @tf.function(jit_compile=True)
        def step(ids, rows, optimizer=optimizer, table=table):
            gradient = tf.IndexedSlices(rows, ids, tf.constant([2, 1]))
            optimizer.apply_gradients([(gradient, table)])

        step(tf.constant(ids), tf.constant(rows))
        results.append(table.numpy())
    np.testing.assert_array_equal(*results)
    np.testing.assert_allclose(results[0], [[0.75], [1.5]])
