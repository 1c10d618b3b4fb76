"""Factors that clip gradients by norm, as Keras does, without touching them."""

import tensorflow as tf

from tf_optim import checks


def factors(optimizer, norms):
    """A float64 vector of factors that clip by norm; the bound of values, 0 for none.

    Args:
        optimizer: with at most one of `clipnorm`, `global_clipnorm`, `clipvalue`.
        norms: calls for the `norms.Norms` of the gradients.

    Returns:
        The vector, None for factors of 1, and the bound.
    """
    if optimizer.clipnorm is not None:
        return _scale(tf.sqrt(norms().squares), optimizer.clipnorm), 0.0
    if optimizer.global_clipnorm is not None:
        squares = norms().squares
        norm = tf.sqrt(tf.reduce_sum(squares))
        # An infinite norm makes every gradient NaN, as in stock, and not zero.
        scale = _scale(norm, optimizer.global_clipnorm) + (norm - norm)
        return tf.fill(squares.shape, scale), 0.0
    # A bound that bounds nothing is none: no graph holds an infinity.
    bound = optimizer.clipvalue
    no_bound = bound is None or checks.static_value(bound) == float("inf")
    return None, 0.0 if no_bound else checks.as_number(bound)


def _scale(norm, clipnorm):
    """clipnorm / max(norm, clipnorm)."""
    clipnorm = checks.as_tensor(clipnorm, norm.dtype)
    return clipnorm / tf.maximum(norm, clipnorm)
