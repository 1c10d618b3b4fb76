"""Moving averages of the variables (`use_ema`)."""

import tensorflow as tf

from tf_optim import checks, keras_private, replicas


def update(optimizer, local, variables):
    """Updates the averages after a step, and overwrites the variables when it is time.

    Returns the ops; none in eager mode.
    """
    if not optimizer.use_ema:
        return []
    averaged = keras_private.averaged_in_a_step(optimizer, variables)
    pairs = keras_private.averages_of(optimizer, averaged)
    iterations = tf.convert_to_tensor(optimizer.iterations)
    momentum = checks.as_tensor(optimizer.ema_momentum, tf.float64)
    if keras_private.is_keras_3():  # where the first average is the variable
        momentum *= tf.cast(tf.not_equal(iterations, 0), tf.float64)
    ops = []
    for variable, average in pairs:
        old, new = (
            tf.cast(momentum, average.dtype),
            tf.cast(1.0 - momentum, average.dtype),
        )
        for v, a in zip(local(variable), local(average), strict=True):
            ops.append(a.assign(old * a + new * tf.cast(v, a.dtype), read_value=False))
    frequency = optimizer.ema_overwrite_frequency
    if frequency:
        with tf.control_dependencies([op for op in ops if op is not None]):
            is_time = tf.equal((iterations + 1) % frequency, 0)
            done = tf.cond(
                is_time, lambda: _overwritten(local, pairs), lambda: tf.constant(False)
            )
        ops = [done]
    return [op for op in ops if isinstance(op, (tf.Tensor, tf.Operation))]


def _overwritten(local, pairs):
    ops = [
        v.assign(tf.cast(a, v.dtype), read_value=False)
        for variable, average in pairs
        for v, a in zip(local(variable), local(average), strict=True)
    ]
    with tf.control_dependencies([op for op in ops if op is not None]):
        return tf.constant(True)


def overwrite(optimizer, variables):
    """Gives the variables the values of their averages."""
    if optimizer.use_ema:
        pairs = keras_private.averages_of(optimizer, variables)
        _overwritten(replicas.local_parts(), pairs)
