"""Factors that clip gradients by norm, as Keras does, without touching them.

A sparse gradient's norm is that of its summed rows: an id that occurs twice
counts with the sum of its two gradients, where stock takes them apart.
"""

import tensorflow as tf


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


def _squared_norm(gradient):
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, tf.float32)
        gradient = sum_duplicates(tf.IndexedSlices(values, gradient.indices)).values
    return tf.reduce_sum(tf.square(tf.cast(gradient, tf.float32)))


def scales_for_clipnorm(gradients, clipnorm):
    """For each gradient clipnorm / max(its norm, clipnorm)."""
    norms = [tf.sqrt(_squared_norm(gradient)) for gradient in gradients]
    return [clipnorm / tf.maximum(norm, clipnorm) for norm in norms]


def scales_for_global_clipnorm(gradients, clipnorm):
    """For each gradient clipnorm / max(norm of all, clipnorm)."""
    norm = tf.sqrt(tf.add_n([_squared_norm(gradient) for gradient in gradients]))
    scale = clipnorm / tf.maximum(norm, clipnorm)
    # An infinite norm makes every gradient NaN, as in stock, and not zero.
    scale = tf.where(tf.math.is_finite(norm), scale, float("nan"))
    return [scale] * len(gradients)


def factors(optimizer, gradients):
    """Factors that clip by norm (None: none), and the bound that clips by value."""
    if optimizer.clipnorm is not None:
        return scales_for_clipnorm(gradients, optimizer.clipnorm), float("inf")
    if optimizer.global_clipnorm is not None:
        norm = optimizer.global_clipnorm
        return scales_for_global_clipnorm(gradients, norm), float("inf")
    bound = optimizer.clipvalue
    return [None] * len(gradients), float("inf") if bound is None else bound
