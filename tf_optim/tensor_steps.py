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

    def changed(place, dtype, values):
        values = tf.cast(values, dtype)
        if scale is not None:
            values *= tf.cast(scale[place], dtype)
        if numbers.clip_value:
            bound = checks.as_tensor(numbers.clip_value, dtype)
            values = tf.clip_by_value(values, -bound, bound)
        return values

    made = []
    for place, update in enumerate(updates):
        change = functools.partial(changed, place, computed_in(update.variable.dtype))
        gradient = gradients.scaled(norms.sum_duplicates(update.gradient), change)
        made.append(dataclasses.replace(update, gradient=gradient))
    return made


def dense_gradients(numbers, updates, scale):
    """Those of `seen_by_a_rule`, as tensors of the variables' shapes."""
    made = []
    for update in seen_by_a_rule(numbers, updates, scale):
        gradient = update.gradient
        if update.is_sparse:
            shape = tf.shape(update.variable, gradient.indices.dtype)
            gradient = tf.scatter_nd(gradient.indices[:, None], gradient.values, shape)
        made.append(gradient)
    return made


def assign_behind(ops, pairs):
    """Sets slots once the ops are done: a failed step leaves no trace.

    Args:
        ops: of the step.
        pairs: of a slot and its new value.

    Returns:
        All ops; none in eager mode.
    """
    with tf.control_dependencies(ops):
        assigned = [slot.assign(value, read_value=False) for slot, value in pairs]
    return [] if tf.executing_eagerly() else ops + assigned


def descend(numbers, updates, steps, scale=None):
    """Subtracts learning_rate * step from each variable. Returns the ops.

    Args:
        numbers: the `op_calls.StepNumbers`.
        updates: a list of `op_calls.VariableUpdate`.
        steps: a tensor for each.
        scale: as `op_calls.call_ops` takes it, of the steps.
    """
    numbers = dataclasses.replace(numbers, hyper=(0.0,), flags=(False,), clip_value=0.0)
    turned = [
        dataclasses.replace(
            update,
            gradient=tf.cast(step, update.variable.dtype),
            slots=(None,),
            hyper=(),
        )
        for update, step in zip(updates, steps, strict=True)
    ]
    return op_calls.call_ops(_DESCENT, numbers, turned, scale)
