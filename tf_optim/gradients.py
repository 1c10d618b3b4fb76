"""Gradients as people pass them, and what the ops take of them."""

import warnings

import tensorflow as tf

from tf_optim import checks


def given(grads_and_vars):
    """The pairs whose gradient is not None.

    Raises:
        ValueError: if there are none.
    """
    pairs = [(g, v) for g, v in grads_and_vars if g is not None]
    if not pairs:
        raise ValueError(
            "No gradients provided for any variable: expected a gradient other than "
            f"None. Received: {[_name(v) for _, v in grads_and_vars]}, all with None."
        )
    missing = [_name(v) for g, v in grads_and_vars if g is None]
    if missing:
        warnings.warn(
            f"Gradients do not exist for variables {missing}, which stay as they are. "
            "With `model.compile()`: is there a `loss`?",
            stacklevel=4,
        )
    return pairs


def _name(variable):
    return getattr(variable, "path", variable.name)


def checked(grads, variables):
    """Pairs of gradient and variable, the gradients as the ops can take them.

    Args:
        grads: for each variable a tensor, or what can be made one; or
            `tf.IndexedSlices`, whose parts may be NumPy arrays, lists or tuples.
        variables: `tf.Variable`s.

    Returns:
        A list of pairs of a `tf.Tensor`, or `tf.IndexedSlices` of such whose indices
        are int32 or int64, and its variable.

    Raises:
        ValueError: if a gradient's static shape cannot be right, if it has no real
            numbers, or indices are not integers.
    """
    pairs = []
    for gradient, variable in zip(grads, variables, strict=True):
        if isinstance(gradient, tf.IndexedSlices):
            shape = gradient.dense_shape
            if shape is not None:
                shape = tf.convert_to_tensor(shape)
            gradient = tf.IndexedSlices(
                _tensor(gradient.values, variable),
                checks.as_indices(
                    gradient.indices,
                    f"The indices of the gradient of '{variable.name}'",
                ),
                shape,
            )
        else:
            gradient = _tensor(gradient, variable)
        pairs.append((gradient, variable))
    checks.check_gradients(pairs)
    return pairs


def _tensor(value, variable):
    if not isinstance(value, tf.Tensor):
        # A list's numbers are as exact as the variable's.
        hint = variable.dtype if isinstance(value, (list, tuple, float, int)) else None
        try:
            value = tf.convert_to_tensor(value, dtype_hint=hint)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The gradient of '{_name(variable)}' must be a tensor, an array or "
                f"tf.IndexedSlices of such. Received: {type(value).__name__} ({error})"
            ) from None
    if value.dtype.is_floating:
        return value
    if not (value.dtype.is_integer or value.dtype.is_bool):
        raise ValueError(
            f"The gradient of '{_name(variable)}' must have real numbers. Received: "
            f"dtype {value.dtype.name}."
        )
    return tf.cast(value, variable.dtype)


def scaled(gradient, function):
    """The gradient with a function applied to its values."""
    if not isinstance(gradient, tf.IndexedSlices):
        return function(gradient)
    return tf.IndexedSlices(
        function(gradient.values), gradient.indices, gradient.dense_shape
    )


def divided(gradient, scale):
    """The gradient divided by a float64 scalar; in float32 if it is of 16 bits."""

    def divide(values):
        values = tf.cast(values, tf.float32) if values.dtype.size < 4 else values
        return values / tf.cast(scale, values.dtype)

    return scaled(gradient, divide)


def multiplied(gradient, factor):
    """The gradient multiplied by a float64 scalar, in its own dtype."""
    return scaled(gradient, lambda values: values * tf.cast(factor, values.dtype))


def floating(gradient):
    """A gradient as it is given, as a `tf.Tensor` or `tf.IndexedSlices` of floats."""
    if not isinstance(gradient, tf.IndexedSlices):
        gradient = tf.convert_to_tensor(gradient)
    return scaled(
        gradient, lambda x: x if x.dtype.is_floating else tf.cast(x, "float32")
    )
