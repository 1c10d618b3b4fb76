"""The op that measures gradients: sums of squares, what is not finite, rows."""

import numpy as np
import pytest
import tensorflow as tf

from tests import reference_norms
from tests.marks import every_dtype, every_index_dtype
from tf_optim import library

WIDTHS = (1, 3, 8, 16, 33, 64, 300)


def measured(dense=(), sparse=(), rows=(), dtype=tf.float32, index_dtype=tf.int64):
    """Arrays of the op's outputs."""
    outputs = library.ops().tf_optim_gradient_norms(
        grad=[tf.constant(g, dtype) for g in (*dense, *(s[1] for s in sparse))],
        indices=[tf.constant(ids, index_dtype) for ids, _ in sparse],
        rows=rows,
    )
    return [output.numpy() for output in outputs[:3]]


def draw(rng, count, width, rows):
    return rng.integers(0, rows, size=count), rng.normal(size=(count, width))


@every_dtype
@every_index_dtype
@pytest.mark.parametrize("width", WIDTHS)
def test_squares_are_those_of_summed_rows(width, dtype, index_dtype):
    rng = np.random.default_rng(width)
    dense = [rng.normal(size=shape) for shape in ((), (7,), (5, 13), (90, 100))]
    sparse = [draw(rng, count, width, rows) for count, rows in ((40, 9), (300, 4000))]
    squares, non_finite, rows = measured(
        dense, sparse, (9, 4000), getattr(tf, dtype), index_dtype
    )
    expected = [reference_norms.of_dense(g, dtype) for g in dense]
    expected += [reference_norms.of_rows(*s, dtype) for s in sparse]
    # What is summed of 16 bits is float32; squares and their sum are double.
    np.testing.assert_allclose(squares, expected, rtol=1e-12 if width else 0)
    assert not non_finite.any()
    assert list(rows) == [len(np.unique(ids)) for ids, _ in sparse]


def test_no_square_of_a_float_overflows():
    big = np.finfo(np.float32).max
    squares, non_finite, _ = measured([[big] * 1000])
    np.testing.assert_allclose(squares, [1000 * float(big) ** 2], rtol=1e-12)
    assert list(non_finite) == [0]


@every_dtype
def test_what_is_not_finite_is_counted(dtype):
    values = np.ones((200, 70))
    values[3, 5], values[150, 69], values[199, 0] = np.inf, np.nan, -np.inf
    ids = np.arange(200)
    ids[3] = 199  # two of them in one row, in different columns
    _, non_finite, _ = measured(
        [values, np.ones(3)], [(ids, values)], (200,), getattr(tf, dtype)
    )
    assert list(non_finite) == [3, 0, 3]


def test_infinities_that_meet_in_a_row_count_once():
    values = np.array([[np.inf, 1], [-np.inf, 1], [1, 1]])
    _, non_finite, rows = measured(sparse=[([2, 2, 0], values)], rows=(4,))
    assert (list(non_finite), list(rows)) == ([1], [2])


def test_ids_outside_of_the_table_count_for_nothing():
    ids, values = [0, 7, -1, 4], [[3.0], [np.nan], [np.inf], [4.0]]
    squares, non_finite, rows = measured(sparse=[(ids, values)], rows=(7,))
    assert (list(squares), list(non_finite), list(rows)) == ([25], [0], [2])


def test_empty_gradients_are_zero():
    nothing = measured([np.zeros((0, 3))], [([], np.zeros((0, 3)))], (5,))
    assert [list(each) for each in nothing] == [[0, 0], [0, 0], [0]]


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="a row for each of"):
        measured(sparse=[([0, 1], np.ones((3, 2)))], rows=(4,))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received: 2"):
        measured(sparse=[([0], np.ones((1, 2)))], rows=(4, 4))


@every_dtype
@every_index_dtype
@pytest.mark.parametrize("portable", [False, True])
def test_the_same_under_xla(dtype, index_dtype, portable, monkeypatch):
    if portable:  # what GPUs do
        monkeypatch.setenv("TF_OPTIM_XLA_STEP", "portable")
    rng = np.random.default_rng(5)
    dense = tf.constant(rng.normal(size=(30, 7)), dtype)
    ids, values = draw(rng, 50, 5, 12)
    ids[7], values[9, 1] = -1, np.nan
    ids, values = tf.constant(ids, index_dtype), tf.constant(values, dtype)

    def call(dense, values, ids):
        return library.ops().tf_optim_gradient_norms(
            grad=[dense, values], indices=[ids], rows=[12]
        )

    plain = call(dense, values, ids)
    compiled = tf.function(call, jit_compile=True)(dense, values, ids)
    for left, right in zip(plain[:3], compiled[:3], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12)
    assert compiled[3][0].shape == [0]  # steps sort for themselves there


def many_norms():
    """Of long, short and odd lengths, dense and sparse: for processes_test."""
    rng = np.random.default_rng(1)
    found = []
    for dtype in ("float32", "float64", "bfloat16", "float16"):
        dense = [rng.normal(size=n) for n in (1, 31, 4097, 100_003)]
        sparse = [draw(rng, 3000, width, 800) for width in WIDTHS]
        squares, _, _ = measured(dense, sparse, [800] * len(sparse), getattr(tf, dtype))
        found += [np.float64(square) for square in squares]
    return np.array(found)
