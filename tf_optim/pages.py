"""Memory for large slots: in huge pages from the start, so that nothing need move."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_optim import checks, library, servers

LEAST_BYTES = 1 << 25  # a sparse step of smaller tables gains little


def is_on_cpu(device):
    """Whether it is a CPU, of this process or of another."""
    return tf.DeviceSpec.from_string(device or "").device_type in (None, "CPU")


def filled(shape, value, device):
    """A tensor of one value.

    Args:
        shape: a list of sizes or `tf.TensorShape`.
        value: a scalar tensor.
        device: where the variable that it is for lies.
    """
    shape = [int(size) for size in shape]
    is_here = is_on_cpu(device) and not servers.is_server(device)
    size = math.prod(shape) * value.dtype.size
    if size < LEAST_BYTES or not is_here or not tf.executing_eagerly():
        return tf.fill(shape, value)
    dims = tf.constant(shape, tf.int64)
    return library.ops().tf_optim_fill_in_huge_pages(dims=dims, value=value)


class Filled:
    """A Keras initializer: all is one number.

    Attributes:
        is_zero: whether the number is 0.
    """

    def __init__(self, value_in: Callable[[Any], Any], is_zero: bool, device: str):
        """`value_in(dtype)` is the number, `device` that of the variable."""
        self._value_in, self.is_zero, self._device = value_in, is_zero, device

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        del kwargs
        return filled(shape, self._value_in(tf.as_dtype(dtype)), self._device)


def with_number(number, device):
    """`Filled` with a number, which may be a tensor."""
    is_zero = checks.static_value(number) == 0
    return Filled(lambda dtype: checks.as_tensor(number, dtype), is_zero, device)


def initializer(of_keras, device):
    """A Keras initializer of the same values, `Filled` where they are one number.

    Args:
        of_keras: "zeros" or another name, an initializer, or a function.
        device: where the variable that it is for lies.
    """
    if of_keras == "zeros":
        return with_number(0, device)
    if isinstance(of_keras, tf.keras.initializers.Constant):

        def value_in(dtype):  # rounded as Keras does
            return tf.convert_to_tensor(of_keras((), dtype=dtype.name))

        is_zero = checks.static_value(of_keras.value) == 0
        return Filled(value_in, is_zero, device)
    return of_keras
