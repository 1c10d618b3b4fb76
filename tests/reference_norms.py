"""The squared norm of a gradient, in float64 NumPy."""

import numpy as np
import tensorflow as tf


def _as_stored(values, dtype):
    return tf.cast(tf.constant(values, dtype), tf.float64).numpy()


def of_dense(values, dtype="float32"):
    """The sum of squares of what a tensor of the dtype holds."""
    return np.sum(np.square(_as_stored(values, dtype)))


def of_rows(ids, values, dtype="float32"):
    """The same, repeated ids summed first, in the type that is computed in."""
    computed = np.float64 if dtype == "float64" else np.float32
    rows = {}
    for number, row in zip(ids, _as_stored(values, dtype), strict=True):
        row = row.astype(computed)
        rows[number] = rows[number] + row if number in rows else row
    return sum(np.sum(np.square(row.astype(np.float64))) for row in rows.values())
