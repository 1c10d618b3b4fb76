"""The op that adds up repeated rows, and what the package makes of it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.marks import every_index_dtype
from tf_optim import library, norms

IDS = {
    "unique": [7, 2, 9, 0, 4],
    "repeated": [3, 3, 8, 3, 0, 8, 3],
    "negative": [-1, 3, -5, -1, 2],
    "empty": [],
    "many": np.random.default_rng(0).integers(0, 40_000, 100_000),
    "far apart": [2**30, 0, 2**30],
}


@every_index_dtype
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,)])
@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_are_added_in_their_order(ids, shape, dtype, index_dtype):
    ids = np.array(IDS[ids], index_dtype)
    grad = np.random.default_rng(1).normal(size=(len(ids), *shape)).astype(dtype)
    rows, position = np.unique(ids, return_inverse=True)
    expected = np.zeros((len(rows), *shape), dtype)
    np.add.at(expected, position, grad)
    slices = norms.sum_duplicates(tf.IndexedSlices(tf.constant(grad), ids))
    np.testing.assert_array_equal(slices.indices, rows)
    np.testing.assert_array_equal(slices.values, expected)
    assert slices.indices.dtype == index_dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_16_bits_are_rounded_once(dtype):
    """Added one by one in 16 bits the small ones would be lost."""
    grad = tf.constant([[256.0]] + [[0.25]] * 64, dtype)
    slices = norms.sum_duplicates(tf.IndexedSlices(grad, tf.zeros([65], tf.int64)))
    np.testing.assert_array_equal(np.float32(slices.values), [[272.0]])


def test_wrong_shapes_and_ids():
    op = library.ops().tf_optim_sum_repeated_rows
    for grad, indices in (([[1.0]], [0, 1]), ([[1.0]], [[0]])):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="grad must have a row"
        ):
            op(grad=grad, indices=tf.constant(indices, tf.int64))
    far = tf.constant([-(2**62), 2**62], tf.int64)
    with pytest.raises(tf.errors.InvalidArgumentError, match="nearer to each other"):
        op(grad=[[1.0], [2.0]], indices=far)
