"""What can be known to be wrong before the first op of a step runs.

A step may take several ops, and one that fails must not leave the work of the
others behind.
"""

import numbers

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from tf_optim import library

SPARSE_UPDATES = ("lazy", "dense", "exact", "eventual")
DTYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


def check_sparse_update(value, spec=None):
    """Raises ValueError unless `value` is a mode of sparse updates.

    Args:
        value: what was given.
        spec: the optimizer's `specs.Spec`, where it is known.
    """
    allowed = SPARSE_UPDATES
    if spec is not None and spec.needs_whole_table:
        allowed = SPARSE_UPDATES[:2]
    if value not in allowed:
        names = ", ".join(f"'{mode}'" for mode in allowed[:-1])
        why = (
            f" {spec.name} takes norms of the whole table, which idle rows change too."
            if value in SPARSE_UPDATES
            else ""
        )
        raise ValueError(
            f"`sparse_update` must be {names} or '{allowed[-1]}'.{why} Received: "
            f"sparse_update={value!r}"
        )


def _check(name, value, expected, holds):
    if not holds:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")


_UNKNOWN = float("nan")


def static_value(value):
    """The number that a hyperparameter is, as a float.

    Args:
        value: a number of Python or NumPy, a NumPy array without dimensions, a tensor
            or a variable.

    Returns:
        The float; None where only the step knows it (a tensor of a graph); NaN for
        anything else.
    """
    if isinstance(value, (bool, np.bool_)):
        return _UNKNOWN
    if isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            return _UNKNOWN
    if is_tensor(value):
        tensor = tf.convert_to_tensor(value)
        value = (
            tensor.numpy() if tf.executing_eagerly() else tf.get_static_value(tensor)
        )
        if value is None:
            return None
    if isinstance(value, (np.ndarray, np.generic)) and np.shape(value) == ():
        is_number = np.issubdtype(np.asarray(value).dtype, np.number)
        return float(value) if is_number or value.dtype.name == "bfloat16" else _UNKNOWN
    return _UNKNOWN


def is_tensor(value):
    """Whether a value is a tensor or a variable, of TensorFlow or of Keras."""
    return tf.is_tensor(value) or hasattr(value, "__tf_tensor__")


def as_number(value):
    """A hyperparameter as an op takes it: a float, or a float64 tensor."""
    if isinstance(value, float):
        return value
    return as_tensor(value, tf.float64) if is_tensor(value) else float(value)


def as_tensor(value, dtype):
    """A hyperparameter as a tensor. (`tf.cast` takes a float through float32.)"""
    if is_tensor(value):
        return tf.cast(tf.convert_to_tensor(value), dtype)
    return tf.constant(float(value), dtype)


def plain(value):
    """A configuration's value; numbers of NumPy and TensorFlow as Python's."""
    if isinstance(value, (np.ndarray, np.generic)) or is_tensor(value):
        number = static_value(value)
        if number is None or number != number:
            return value
        is_whole = tf.as_dtype(value.dtype).is_integer
        return int(number) if is_whole else number
    return value


KERAS_ARGUMENTS = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "weight_decay",
    "ema_momentum",
    "ema_overwrite_frequency",
    "gradient_accumulation_steps",
    "loss_scale_factor",
)


def check_keras_arguments(optimizer):
    """Raises ValueError for a value of a stock argument that no step could use.

    Stock takes these in silence, and then leaves the feature out. All of them are in
    `KERAS_ARGUMENTS`.
    """

    def check(name, expected, holds, optional=True):
        value = getattr(optimizer, name, None)
        if value is None and optional:
            return
        number = static_value(value)
        _check(name, value, expected, number is None or holds(number))

    positive = "a finite number > 0, or None"
    check("clipvalue", "a number > 0, or None", lambda x: x > 0)
    for name in ("clipnorm", "global_clipnorm", "loss_scale_factor"):
        check(name, positive, lambda x: 0 < x < float("inf"))
    expected = "a finite number >= 0, or None"
    check("weight_decay", expected, lambda x: 0 <= x < float("inf"))
    check("ema_momentum", "in the range [0, 1]", lambda x: 0 <= x <= 1, False)
    for name, least in (
        ("gradient_accumulation_steps", 2),
        ("ema_overwrite_frequency", 0),  # as None
    ):
        value = getattr(optimizer, name, None)
        holds = value is None or is_whole(value, least)
        _check(name, value, f"an integer >= {least}, or None", holds)


def is_whole(value, least):
    """Whether it is a number of Python or NumPy without a fraction, >= `least`."""
    number = _UNKNOWN if is_tensor(value) else static_value(value)
    return least <= number < float("inf") and number == int(number)


def check_switches(optimizer, names):
    """Raises ValueError for an option that is neither on nor off, nor a number."""
    for name in names:
        value = getattr(optimizer, name)
        number = static_value(value)
        is_bool = value is None or isinstance(value, (bool, np.bool_))
        if is_tensor(value) or isinstance(value, np.ndarray):
            is_bool = tf.as_dtype(value.dtype).is_bool and not len(value.shape)
        is_number = number is None or number == number
        _check(name, value, "True or False", is_bool or is_number)


def switch(name, value, *others):
    """True, False or one of `others`, of that value; else raises ValueError.

    Of our own options, which Python reads; `check_switches` is of those that an op may
    be given as a tensor.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if any(value is other for other in others):
        return value
    allowed = ["True", "False", *map(repr, others)]
    text = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
    raise ValueError(f"`{name}` must be {text}. Received: {name}={value!r}")


def check_layout(variable):
    """Raises ValueError for a variable that DTensor lays out over a mesh."""
    if isinstance(variable, tf.experimental.dtensor.DVariable):
        raise ValueError(
            "A fused optimizer updates variables of one device each. Received: "
            f"'{variable.name}', a DVariable, which DTensor lays out over a mesh."
        )


def check_dtype(variable):
    """Raises ValueError unless there are kernels for the variable's dtype."""
    if variable.dtype not in DTYPES:
        raise ValueError(
            "A fused optimizer updates variables of dtype "
            f"{', '.join(dtype.name for dtype in DTYPES)}. Received: "
            f"'{variable.name}' of dtype {variable.dtype.name}."
        )


def as_indices(indices, whose):
    """Indices as a tensor of int32 or int64.

    Args:
        indices: integers of any dtype, or a list.
        whose: what they are, as the error says it.

    Raises:
        ValueError: if they are not integers.
    """
    if isinstance(indices, (list, tuple)) and not indices:
        indices = tf.zeros([0], tf.int64)  # and no floats
    indices = tf.convert_to_tensor(indices)
    check_integers(indices, whose)
    known = indices.dtype in (tf.int32, tf.int64)
    return indices if known else tf.cast(indices, tf.int64)


def check_integers(indices, whose):
    """Raises ValueError unless indices, of any kind with a dtype, are integers."""
    dtype = tf.as_dtype(indices.dtype)
    if not dtype.is_integer:
        raise ValueError(f"{whose} must be integers. Received: dtype {dtype.name}.")


def check_gradients(pairs):
    """Raises ValueError if a gradient's static shape cannot be right."""
    for gradient, variable in pairs:
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
        if isinstance(gradient, tf.IndexedSlices) and gradient.dense_shape is not None:
            _check_dense_shape(gradient.dense_shape, variable)


def _check_dense_shape(shape, variable):
    """Raises ValueError for one that is known to be another table's."""
    if not shape.dtype.is_integer:
        raise ValueError(
            f"The dense_shape of the gradient of '{variable.name}' must be integers. "
            f"Received: dtype {shape.dtype.name}."
        )
    known = tf.get_static_value(shape)
    if known is None:
        return
    sizes = [None if size < 0 else int(size) for size in known]
    if not variable.shape[: len(sizes)].is_compatible_with(sizes):
        raise ValueError(
            f"The gradient of '{variable.name}' must have dense_shape "
            f"{variable.shape.as_list()}. Received: {known.tolist()}."
        )


def is_compiled_by_xla(graph=None):
    """Whether a graph, by default the one being traced, is inside jit_compile=True."""
    graph = tf.compat.v1.get_default_graph() if graph is None else graph
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
