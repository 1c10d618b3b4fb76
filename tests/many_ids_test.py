"""Gradients of so many rows that threads sort their ids together, in blocks."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests.marks import every_index_dtype
from tf_optim import library

native = library.native()

# Of several blocks, the last one of one id.
COUNT = 3 * 32768 + 1


def drawn(kind):
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 70_000, size=COUNT)
    if kind == "few":
        ids = rng.integers(0, 3, size=COUNT) * 30_000
    if kind == "sorted":
        ids.sort()
    if kind == "sorted by halves":
        ids[: COUNT // 2].sort()
        ids[COUNT // 2 :].sort()
    return ids


@every_index_dtype
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("kind", ["many", "few", "sorted", "sorted by halves"])
def test_repeated_ids_are_added_in_their_order(kind, threads, index_dtype):
    """NumPy adds one after the other: other orders have other last bits."""
    ids = drawn(kind)
    values = np.random.default_rng(6).normal(size=(COUNT, 2)).astype(np.float32)
    var = np.zeros((70_000, 2), np.float32)
    native.sparse_apply(
        rule="SGD",
        var=[var],
        slots={},
        grad=[values],
        indices=[ids.astype(index_dtype)],
        hyper={"momentum_rate": 0.0},
        flags={"nesterov": False},
        learning_rate=1.0,
        iterations=0,
        threads=threads,
    )
    sums = np.zeros_like(var)
    np.add.at(sums, ids, values)
    np.testing.assert_array_equal(var, -sums)


@pytest.mark.parametrize("position", [0, 40_000, COUNT - 1])
@pytest.mark.parametrize("wrong", [-1, 70_000])
def test_the_first_wrong_id_is_named(position, wrong):
    ids = drawn("many")
    ids[position] = ids[COUNT - 1] = wrong
    table = tf.Variable(tf.zeros([70_000, 1]))
    slices = tf.IndexedSlices(tf.ones([COUNT, 1]), ids, [70_000, 1])
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        tf_optim.SGD(1.0).apply_gradients([(slices, table)])
    assert not np.any(table)
    assert f"indices[{position}] of var[0]" in str(error.value)


def test_ids_that_no_row_has_are_left_out_of_norms():
    """Of all blocks, and of one that has no other."""
    ids = drawn("many")
    ids[::7] = -1
    ids[32768:65536] = 70_000
    kept = (ids >= 0) & (ids < 70_000)
    values = np.random.default_rng(7).normal(size=(COUNT, 1)).astype(np.float32)
    squares, _, rows, _ = library.ops().tf_optim_gradient_norms(
        grad=[values], indices=[ids], rows=[70_000]
    )
    sums = np.zeros(70_000)
    np.add.at(sums, ids[kept], values[kept, 0].astype(np.float64))
    np.testing.assert_allclose(squares[0], np.sum(sums**2), rtol=1e-6)
    assert rows[0] == len(np.unique(ids[kept]))
