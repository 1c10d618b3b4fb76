"""What can be known to be wrong before the first op of a step runs.

A step may take several ops, and one that fails must not leave the work of the
others behind.
"""

import numbers

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from tf_optim import library

SPARSE_UPDATES = ("lazy", "dense")
DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


def check_sparse_update(value):
    """Raises ValueError unless `value` is a mode of sparse updates."""
    if value not in SPARSE_UPDATES:
        allowed = " or ".join(f"'{mode}'" for mode in SPARSE_UPDATES)
        raise ValueError(
            f"`sparse_update` must be {allowed}. Received: sparse_update={value!r}"
        )


def _check(name, value, expected, holds):
    if not holds:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_keras_arguments(optimizer):
    """Raises ValueError for a value of a stock argument that no step could use.

    Stock takes these in silence, and then leaves the feature out.
    """
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        value = getattr(optimizer, name)
        good = value is None or (_is_number(value) and value > 0)
        _check(name, value, "a number > 0, or None", good)
    value = optimizer.weight_decay
    good = value is None or (_is_number(value) and 0 <= value < float("inf"))
    _check("weight_decay", value, "a finite number >= 0, or None", good)
    value = optimizer.ema_momentum
    good = _is_number(value) and 0 <= value <= 1
    _check("ema_momentum", value, "in the range [0, 1]", good)
    value = getattr(optimizer, "gradient_accumulation_steps", None)
    good = value is None or (_is_number(value) and value >= 2 and value == int(value))
    _check("gradient_accumulation_steps", value, "an integer >= 2, or None", good)


def check_dtype(variable):
    """Raises ValueError unless there are kernels for the variable's dtype."""
    if variable.dtype not in DTYPES:
        raise ValueError(
            "A fused optimizer updates variables of dtype "
            f"{', '.join(dtype.name for dtype in DTYPES)}. Received: "
            f"'{variable.name}' of dtype {variable.dtype.name}."
        )


def check_gradient(variable, gradient):
    """Raises ValueError if the gradient's static shape cannot be right."""
    if not isinstance(gradient, tf.IndexedSlices):
        expected, received = variable.shape, gradient.shape
    else:
        if variable.shape.rank == 0:
            raise ValueError(
                f"'{variable.name}' must have rows to have a sparse gradient. "
                "Received: a scalar."
            )
        if not gradient.indices.shape.is_compatible_with([None]):
            raise ValueError(
                f"The indices of the gradient of '{variable.name}' must have shape "
                f"[number of indices]. Received: {gradient.indices.shape}."
            )
        received = gradient.values.shape
        expected = gradient.indices.shape.concatenate(variable.shape[1:])
    if not received.is_compatible_with(expected):
        raise ValueError(
            f"The gradient of '{variable.name}' must have shape {expected}. "
            f"Received: {received}."
        )


def is_compiled_by_xla():
    """Whether the code being traced is inside jit_compile=True."""
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def check_can_compile():
    """Raises RuntimeError under jit_compile=True if XLA lacks our kernels."""
    if library.xla_error() and is_compiled_by_xla():
        raise RuntimeError(
            "jit_compile=True needs tf_optim's XLA kernels, and their library could "
            "not be loaded. Everything else works: pass jit_compile=False. "
            f"Received: {library.xla_error()}"
        )


def check_indices(variables, indices):
    """An op that fails if an index is outside its variable; None in eager mode.

    XLA cannot raise: there such indices are dropped.
    """
    if is_compiled_by_xla():
        return None
    if len({i.dtype for i in indices}) > 1:
        indices = [tf.cast(i, tf.int64) for i in indices]
    rows = [-1 if v.shape[0] is None else v.shape[0] for v in variables]
    return library.ops().tf_optim_check_indices(indices=indices, rows=rows)
