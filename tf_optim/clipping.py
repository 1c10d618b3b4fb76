"""Factors that clip gradients by norm, as Keras does, without touching them.

A sparse gradient's norm is that of its summed rows: an id that occurs twice
counts with the sum of its two gradients, where stock takes them apart.
"""

import tensorflow as tf

from tf_optim import checks


def sum_duplicates(gradient):
    """IndexedSlices in which no index occurs twice; a dense gradient as it is.

    Sums of 16-bit gradients are rounded once, at the end.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    indices, position = tf.unique(gradient.indices)
    values, dtype = gradient.values, gradient.values.dtype
    if dtype.size < 4:
        values = tf.cast(values, tf.float32)
    values = tf.math.unsorted_segment_sum(values, position, tf.shape(indices)[0])
    return tf.IndexedSlices(tf.cast(values, dtype), indices, gradient.dense_shape)


def _named_rows(update):
    """The gradient; under XLA without the rows of ids that its kernels drop."""
    gradient = update.gradient
    if not update.is_sparse or not checks.is_compiled_by_xla():
        return gradient
    ids = gradient.indices
    rows = tf.cast(tf.shape(update.variable)[0], ids.dtype)
    inside = tf.logical_and(ids >= 0, ids < rows)
    inside = tf.reshape(inside, [-1] + [1] * (gradient.values.shape.rank - 1))
    values = tf.where(inside, gradient.values, tf.zeros_like(gradient.values))
    return tf.IndexedSlices(values, ids)


def _squared_norm(gradient):
    """In float32 for 16 bits, which a sum of squares soon overflows."""
    if not isinstance(gradient, tf.IndexedSlices):
        gradient = tf.convert_to_tensor(gradient)
    dtype = tf.float64 if gradient.dtype == tf.float64 else tf.float32
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, dtype)
        gradient = sum_duplicates(tf.IndexedSlices(values, gradient.indices)).values
    return tf.reduce_sum(tf.square(tf.cast(gradient, dtype)))


def scales_for_clipnorm(gradients, clipnorm):
    """For each gradient clipnorm / max(its norm, clipnorm)."""
    norms = [tf.sqrt(_squared_norm(gradient)) for gradient in gradients]
    return [_scale(norm, clipnorm) for norm in norms]


def scales_for_global_clipnorm(gradients, clipnorm):
    """For each gradient clipnorm / max(norm of all, clipnorm)."""
    squares = [_squared_norm(gradient) for gradient in gradients]
    if len({square.dtype for square in squares}) > 1:
        squares = [tf.cast(square, tf.float64) for square in squares]
    norm = tf.sqrt(tf.add_n(squares))
    # An infinite norm makes every gradient NaN, as in stock, and not zero.
    return [_scale(norm, clipnorm) + (norm - norm)] * len(gradients)


def _scale(norm, clipnorm):
    clipnorm = checks.as_tensor(clipnorm, norm.dtype)
    return clipnorm / tf.maximum(norm, clipnorm)


def factors(optimizer, updates):
    """Factors that clip by norm, None for none; the bound of values, 0 for none."""
    gradients = [_named_rows(update) for update in updates]
    if optimizer.clipnorm is not None:
        return scales_for_clipnorm(gradients, optimizer.clipnorm), 0.0
    if optimizer.global_clipnorm is not None:
        return scales_for_global_clipnorm(gradients, optimizer.global_clipnorm), 0.0
    # A bound that bounds nothing is none: no graph holds an infinity.
    bound = optimizer.clipvalue
    no_bound = bound is None or checks.static_value(bound) == float("inf")
    return [None] * len(gradients), 0.0 if no_bound else checks.as_number(bound)
