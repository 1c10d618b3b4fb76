"""Steps along tensors that TensorFlow's operations make, where a rule cannot.

What the ops do to a gradient on its way in has to be done by hand then; the last pass,
with decay and averages, is an op's.
"""

import dataclasses
import functools

import tensorflow as tf

from tf_optim import checks, gradients, norms, op_calls, specs

_DESCENT = specs.Spec("SGD", name="SGD")


def computed_in(dtype):
    """The dtype that the numbers of a variable of this one are computed in."""
    return tf.float64 if dtype == tf.float64 else tf.float32


def seen_by_a_rule(numbers, updates, scale):
    """The updates with gradients as a rule sees them.

    Repeated ids are added up; scaled, clipped, in the dtype computed in.

    Args:
        numbers: the `op_calls.StepNumbers`.
        updates: a list of `op_calls.VariableUpdate`.
        scale: as `op_calls.call_ops` takes it.
    """
    sparse = [update for update in updates if update.is_sparse]
    check = sparse and checks.check_indices(
        [update.variable for update in sparse],
        [update.gradient.indices for update in sparse],
    )

    def changed(place, dtype, values):
        values = tf.cast(values, dtype)
        if scale is not None:
            values *= tf.cast(scale[place], dtype)
        if numbers.clip_value:
            bound = checks.as_tensor(numbers.clip_value, dtype)
            values = tf.clip_by_value(values, -bound, bound)
        return values

    made = []
    with tf.control_dependencies([check] if check else []):
        for place, update in enumerate(updates):
            dtype = computed_in(update.variable.dtype)
            change = functools.partial(changed, place, dtype)
            gradient = gradients.scaled(norms.sum_duplicates(update.gradient), change)
            if update.is_sparse:
                gradient = _of_rows_there_are(gradient, update.variable)
            gradient = _of_shape(gradient, update.variable.shape)
            made.append(dataclasses.replace(update, gradient=gradient))
    return made


def _of_shape(gradient, shape):
    """As it is, or an error when the step is taken: TensorFlow would broadcast it."""
    if isinstance(gradient, tf.IndexedSlices):
        shape = tf.TensorShape([None]).concatenate(shape[1:])
    return gradients.scaled(gradient, lambda values: tf.ensure_shape(values, shape))


def _of_rows_there_are(slices, variable):
    """Zeros for ids that no row has."""
    values = _where_rows_exist(slices.values, slices.indices, variable)
    return tf.IndexedSlices(values, slices.indices)


def rows_there_are(variable, rows):
    """Rows of a variable, of zeros for ids that it has not."""
    return _where_rows_exist(tf.gather(variable, rows), rows, variable)


def _where_rows_exist(values, ids, variable):
    if not checks.is_compiled_by_xla():
        return values  # an error has been raised: XLA cannot, and leaves such ids out
    rows = tf.shape(variable, ids.dtype)[0]
    exist = tf.reshape((ids >= 0) & (ids < rows), [-1] + [1] * (values.shape.rank - 1))
    return tf.where(exist, values, tf.zeros_like(values))


def dense_gradients(numbers, updates, scale):
    """Those of `seen_by_a_rule`, as tensors of the variables' shapes."""
    return [whole(update) for update in seen_by_a_rule(numbers, updates, scale)]


def whole(update):
    """The gradient as a tensor of the variable's shape, if no row occurs twice."""
    gradient = update.gradient
    if not update.is_sparse:
        return gradient
    shape = update.variable.shape
    if shape.num_elements() == 0:  # scatter_nd refuses it
        with tf.control_dependencies([gradient.values]):  # and what has checked it
            return tf.zeros(shape, gradient.values.dtype)
    shape = tf.shape(update.variable, gradient.indices.dtype)
    return tf.scatter_nd(gradient.indices[:, None], gradient.values, shape)


def assign_behind(ops, pairs):
    """Sets slots once the ops are done: a failed step leaves no trace.

    Args:
        ops: of the step.
        pairs: of a slot and its new value; `tf.IndexedSlices` for some rows of it.

    Returns:
        All ops; none in eager mode.
    """
    with tf.control_dependencies(ops):
        assigned = [_assign(slot, value) for slot, value in pairs]
    return [] if tf.executing_eagerly() else ops + assigned


def _assign(slot, value):
    if isinstance(value, tf.IndexedSlices):
        return tf.raw_ops.ResourceScatterUpdate(
            resource=slot.handle, indices=value.indices, updates=value.values
        )
    return slot.assign(value, read_value=False)


def descend(numbers, updates, steps, scale=None):
    """Subtracts learning_rate * step from each variable. Returns the ops.

    Args:
        numbers: the `op_calls.StepNumbers`.
        updates: a list of `op_calls.VariableUpdate`.
        steps: for each a tensor or `tf.IndexedSlices`, as a gradient may be.
        scale: as `op_calls.call_ops` takes it, of the steps.
    """
    off = (False,) * len(_DESCENT.flags)
    numbers = dataclasses.replace(numbers, hyper=(0.0,), flags=off, clip_value=0.0)
    turned = [
        dataclasses.replace(
            update,
            gradient=step,
            slots=(None,),
            hyper=(),
        )
        for update, step in zip(updates, steps, strict=True)
    ]
    return op_calls.call_ops(_DESCENT, numbers, turned, scale)
