"""SM3."""

from __future__ import annotations

import dataclasses
import functools

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import base, checks, flavour, op_calls, specs, tensor_steps
from tf_optim.annotations import LearningRate, Number, SharedArguments

# What is done with g / sqrt(v).
_MOMENTUM = specs.Spec("SGD", name="SM3")


def _rows(shape):
    return shape[:1]


def _along_the_other_axes(shape):
    return [sum(shape.as_list()[1:])]


class _Covered(specs.Spec):
    """Of an optimizer that is no rule: two slots have a number per place on an axis."""

    needs_whole_table = False
    slots = (
        specs.Slot("momentum", "_momentums", optional=True),
        specs.Slot("row_accumulator", "_row_accumulators", _rows, positive=True),
        specs.Slot(
            "column_accumulator",
            "_column_accumulators",
            _along_the_other_axes,
            positive=True,
        ),
    )
    said_of_variables = (
        "Variables may be float16, bfloat16, float32 or float64; slots of 16-bit "
        "variables are float32. `row_accumulator` has a number per row, that is, per "
        "place on the first axis; `column_accumulator` has those of the other axes, "
        "one axis behind the other; `momentum` (with its option) has the variable's "
        "shape. v is worked out by TensorFlow's operations, variable by variable, and "
        "all variables of one device and dtype are then updated by one op."
    )


@flavour.register
class SM3(flavour.FusedOptimizer, base.Optimizer):
    r"""SM3: Adagrad with a sum per row and per column in place of one per element.

    With g the gradient of variable p, and for each axis of p a vector a_axis, which
    starts at `initial_accumulator_value`:

        v = (the least of the a_axis at an element's places) + g^2
        a_axis = the largest v at each place on the axis
        m = momentum * m - learning_rate * (1 - momentum) * g / sqrt(v)
        p += m

    g / sqrt(v) is 0 where v is 0. The state of a table is one number per row and one
    per column, and with momentum one per element. A row that a gradient does not name
    keeps its sums in the dense step too: without momentum and weight decay a lazy step
    is the whole step.

    Args:
        momentum: the decay of m, in [0, 1]; 0 for none. Default: 0.9.
        initial_accumulator_value: what the sums start at, >= 0. Default: 0.0.

    Example:

    >>> opt = SM3(learning_rate=0.1, momentum=0.0)
    >>> var = tf.Variable([[10.0, 10.0], [10.0, 10.0]])
    >>> _ = opt.apply_gradients([(tf.identity(var), var)])  # of |var|^2 / 2
    >>> print(f"{var.numpy()[0, 0]:.4f}")
    9.9000

    Differences from the paper:
        - The momentum takes in the learning rate of each step, as in `SGD`. With a
          constant one the results are the same.

    Reference:
        [Anil et al., 2019](https://arxiv.org/abs/1901.11150), algorithm SM3-II.
    """

    _spec = _Covered(
        "SGD",
        attributes={"momentum_rate": "momentum"},
        checked=(specs.INITIAL,),
        initial={
            "row_accumulator": "initial_accumulator_value",
            "column_accumulator": "initial_accumulator_value",
        },
        switches={"momentum": "momentum"},
        is_rule=False,
    )
    nesterov = False

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        momentum: Number = 0.9,
        initial_accumulator_value: float = 0.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _apply_updates(self, numbers, updates, scale):
        seen = tensor_steps.seen_by_a_rule(numbers, updates, scale)
        turned, assignments = [], []
        for update in seen:
            step, pairs = _turned(update)
            turned.append(
                dataclasses.replace(update, gradient=step, slots=update.slots[:1])
            )
            assignments += pairs
        numbers = dataclasses.replace(numbers, clip_value=0.0)
        share = None
        if turned[0].slots[0] is not None:  # all have one, or none
            share = 1.0 - checks.as_tensor(checks.as_number(self.momentum), tf.float64)
            share *= tf.ones([len(turned)], tf.float64)
        ops = op_calls.call_ops(_MOMENTUM, numbers, turned, share)
        return tensor_steps.assign_behind(ops, assignments)


def _turned(update):
    """g / sqrt(v), and pairs of an accumulator and its new value."""
    _, rows, columns = update.slots
    gradient, shape = update.gradient, update.variable.shape
    at_rows, others = tf.convert_to_tensor(rows), tf.convert_to_tensor(columns)
    if update.is_sparse:
        at_rows = tf.gather(rows, gradient.indices)
        gradient = gradient.values
    square, of_columns = tf.square(gradient), []
    if shape.rank < 2:
        v = new_rows = at_rows + square
    else:
        axes = range(shape.rank)
        sums = [at_rows, *tf.split(others, shape.as_list()[1:])]
        along = [
            tf.reshape(each, [-1 if i == axis else 1 for i in axes])
            for axis, each in enumerate(sums)
        ]
        v = functools.reduce(tf.minimum, along) + square
        # With the old ones: rows that have no gradient count too.
        new_rows, *new_others = (
            tf.maximum(each, tf.reduce_max(v, [i for i in axes if i != axis]))
            for axis, each in enumerate(sums)
        )
        of_columns = [(columns, tf.concat(new_others, 0))]
    step = tf.math.divide_no_nan(gradient, tf.sqrt(v))
    if update.is_sparse:
        step = tf.IndexedSlices(step, update.gradient.indices)
        new_rows = tf.IndexedSlices(new_rows, update.gradient.indices)
    return step, [(rows, new_rows), *of_columns]
