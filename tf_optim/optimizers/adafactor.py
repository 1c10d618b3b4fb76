"""Adafactor."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import (
    checks,
    flavour,
    fused,
    library,
    norms,
    op_calls,
    pages,
    specs,
    tensor_steps,
)
from tf_optim.annotations import LearningRate, Number, SharedArguments


def _rows(shape):
    return shape[:-1] if shape.rank > 1 else ()


def _columns(shape):
    return shape[:-2].concatenate(shape[-1:]) if shape.rank > 1 else ()


def _means_of(update):
    """The slots of a step, a list: by rows and columns; of a vector by elements."""
    row_mean, column_mean, velocity = update.slots
    is_matrix = tf.TensorShape(update.variable.shape).rank > 1
    return [row_mean, column_mean] if is_matrix else [velocity]


class _Factored(specs.Spec):
    """Of an optimizer that is no rule: two slots are not of the variable's shape."""

    hyper = flags = per_step = ()
    needs_whole_table = True
    slots = (
        specs.Slot("row_mean", "_r", _rows, positive=True),
        specs.Slot("column_mean", "_c", _columns, positive=True),
        specs.Slot("velocity", "_v", positive=True),
    )
    said_of_variables = (
        "Variables may be float16, bfloat16, float32 or float64; slots of 16-bit "
        "variables are float32. A variable of two dimensions or more has a mean per "
        "row and per column of its last two, others a `velocity` of their shape. One "
        "op moves the means of all variables of a dtype, one makes their steps, one "
        "updates them. Under XLA and on a GPU the first two are TensorFlow's "
        "operations, variable by variable."
    )


@flavour.register
class Adafactor(flavour.FusedOptimizer, tf.keras.optimizers.Adafactor):
    r"""Adafactor: the mean square of a matrix by rows and columns.

    With g the gradient of variable p, rms(x) the root of the mean of x^2, and t the
    number of the step, from 1:

        b = 1 - t^beta_2_decay
        r = b * r + (1 - b) * (mean of g^2 over each row + epsilon_1)
        c = b * c + (1 - b) * (mean of g^2 over each column + epsilon_1)
        v = r / mean(r) * c
        u = g / sqrt(v)
        rate = max(epsilon_2, rms(p)) * min(learning_rate, 1 / sqrt(t))
        p -= rate * u / max(1, rms(u) / clip_threshold)

    Rows and columns are those of the last two dimensions. A variable of fewer has a v
    of its own shape, b * v + (1 - b) * (g^2 + epsilon_1).

    Args:
        beta_2_decay: the power of t that b goes to 1 by, <= 0. Default: -0.8.
        epsilon_1: added to each squared gradient, >= 0. Default: 1e-30.
        epsilon_2: the least that rms(p) counts as, >= 0. Default: 1e-3.
        clip_threshold: the rms(u) above which a step is shortened, > 0. Default: 1.0.
        relative_step: without effect, as in Keras, whose step is never longer than
            1 / sqrt(t) in any case. Default: True.

    Example:

    >>> opt = Adafactor(learning_rate=0.1)
    >>> var = tf.Variable([[10.0, 10.0], [10.0, 10.0]])
    >>> _ = opt.apply_gradients([(tf.identity(var), var)])  # of |var|^2 / 2
    >>> print(f"{var.numpy()[0, 0]:.4f}")
    9.0000

    Differences from Keras:
        - `learning_rate_multipliers` multiply `rate` as a whole, its bound of
          1 / sqrt(t) included: another `learning_rate` may do less.
        - A sparse gradient needs `sparse_update="dense"`: a step depends on all rows.
          Repeated indices are summed first.
        - Slots of 16-bit variables are float32, and so is the arithmetic.
        - The `velocity` of a variable with r and c stays 0. Keras stores v there and
          does not read it; ours is there so that checkpoints are the same.

    Reference:
        [Shazeer and Stern, 2018](https://arxiv.org/abs/1804.04235).
    """

    _spec = _Factored(
        "SGD",
        slot_dtypes=("float32",),
        why_not_packed="they are means over rows and columns, and small",
        checked=(
            specs.Hyper("", "beta_2_decay", low=-float("inf"), high=0.0, closed=True),
            specs.Hyper("", "epsilon_1"),
            specs.Hyper("", "epsilon_2"),
        ),
        is_rule=False,
    )
    _is_from_reference = False

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_2_decay: Number = -0.8,
        epsilon_1: Number = 1e-30,
        epsilon_2: Number = 1e-3,
        clip_threshold: Number = 1.0,
        relative_step: bool = True,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _check_hyperparameters(self):
        super()._check_hyperparameters()
        number = checks.static_value(self.clip_threshold)
        if number is not None and not number > 0:
            raise ValueError(
                "`clip_threshold` must be > 0. Received: "
                f"clip_threshold={self.clip_threshold!r}"
            )

    # --- building: by Keras, whose means are of the variable's dtype

    def add_variable_from_reference(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a velocity or an average."""
        self._is_from_reference = True
        try:
            return super().add_variable_from_reference(*args, **kwargs)
        finally:
            self._is_from_reference = False

    def add_variable(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a variable of the optimizer."""
        if not self._is_from_reference and fused.is_half(kwargs.get("dtype", "int32")):
            kwargs["dtype"] = "float32"
        return super().add_variable(*args, **kwargs)

    # --- the step

    def _apply_updates(self, numbers, updates, scale):
        for update in updates:
            if update.is_sparse and update.mode == "lazy":
                raise ValueError(
                    'Adafactor must have sparse_update="dense" for a sparse gradient: '
                    "its step depends on all rows. Received: tf.IndexedSlices for "
                    f"'{update.variable.name}' under "
                    f"sparse_update={self.sparse_update!r}."
                )
        grads = tensor_steps.dense_gradients(numbers, updates, scale)
        number = tf.cast(numbers.iterations, tf.float64) + 1.0
        share = number ** checks.as_tensor(self.beta_2_decay, tf.float64)
        has_op = not checks.is_compiled_by_xla() and all(
            pages.is_on_cpu(update.variable.device) for update in updates
        )
        turn = self._turned if has_op else self._turned_piecewise
        steps, squares, assignments = turn(grads, updates, share)
        scale, numbers, updates = self._lengths(numbers, updates, squares, number)
        ops = tensor_steps.descend(numbers, updates, steps, scale)
        return tensor_steps.assign_behind(ops, assignments)

    def _turned(self, gradients, updates, share):
        """u of the formula, sums of its squares, and pairs of a slot and its new value.

        By an op for all gradients of a dtype.
        """
        steps, squares = [None] * len(updates), [None] * len(updates)
        assignments = []
        for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
            places = [i for i, each in enumerate(gradients) if each.dtype == dtype]
            grads = [gradients[i] for i in places]
            slots = [_means_of(updates[i]) for i in places]
            none = tf.zeros([], dtype)  # the columns of a vector
            means = [[*map(tf.convert_to_tensor, each), none][:2] for each in slots]
            rows, columns = zip(*means, strict=True)
            after = library.ops().tf_optim_adafactor_means(
                grad=grads,
                rows=rows,
                columns=columns,
                share=share,
                epsilon=checks.as_tensor(self.epsilon_1, tf.float64),
            )
            turned = library.ops().tf_optim_adafactor_steps(
                grad=grads, rows=after.rows_after, columns=after.columns_after
            )
            sums = tf.unstack(turned.squares, len(places))
            for i, step, square in zip(places, turned.steps, sums, strict=True):
                steps[i], squares[i] = step, square
            pairs = zip(slots, after.rows_after, after.columns_after, strict=True)
            # A vector has one slot alone.
            for own, *values in pairs:
                assignments += zip(own, values, strict=False)
        return steps, tf.stack(squares), assignments

    def _turned_piecewise(self, gradients, updates, share):
        """The same, for XLA and for GPUs."""
        pairs = zip(gradients, updates, strict=True)
        steps, assignments = zip(
            *(self._piecewise(g, update, share) for g, update in pairs), strict=True
        )
        variables = [update.variable for update in updates]
        squares = norms.Norms(list(steps), variables).squares
        return steps, squares, [pair for pairs in assignments for pair in pairs]

    def _piecewise(self, gradient, update, share):
        if update.variable.shape.num_elements() == 0:
            # TensorFlow's graph optimizer divides by the size of some products.
            return gradient, []
        dtype = gradient.dtype
        share = tf.cast(share, dtype)

        def moved(slot, square):
            old = tf.convert_to_tensor(slot)
            new = square + checks.as_tensor(self.epsilon_1, dtype)
            return old + share * (new - old)

        def mean_square(axis):
            return tf.reduce_mean(tf.square(gradient), axis)

        if gradient.shape.rank < 2:
            (velocity,) = _means_of(update)
            new = moved(velocity, tf.square(gradient))
            return gradient * tf.math.rsqrt(new), [(velocity, new)]
        row_mean, column_mean = _means_of(update)
        rows = moved(row_mean, mean_square(-1))
        columns = moved(column_mean, mean_square(-2))
        of_row = tf.math.rsqrt(rows / tf.reduce_mean(rows, -1, keepdims=True))
        of_column = tf.math.rsqrt(columns)
        turned = gradient * of_row[..., None] * of_column[..., None, :]
        return turned, [(row_mean, rows), (column_mean, columns)]

    def _lengths(self, numbers, updates, squares, number):
        """What each u is multiplied by; numbers and updates of a rate of 1 or -1.

        Or of the rate itself, where it is not finite.
        """
        variables = [update.variable for update in updates]
        values = [tf.convert_to_tensor(variable) for variable in variables]
        counts = tf.stack([tf.size(value, tf.int64) for value in values])
        counts = tf.cast(tf.maximum(counts, 1), tf.float64)

        rate = checks.as_tensor(numbers.learning_rate, tf.float64)
        factors = tf.constant([u.rate_factor for u in updates], tf.float64)
        decays = [
            rate * u.rate_factor * checks.as_tensor(u.weight_decay, tf.float64)
            if op_calls.may_decay(u.weight_decay)
            else tf.zeros([], tf.float64)  # not infinity times 0
            for u in updates
        ]
        sizes = tf.sqrt(norms.Norms(values, variables).squares / counts)
        sizes *= tf.abs(1.0 - tf.stack(decays))  # they decay before
        epsilon = checks.as_tensor(self.epsilon_2, tf.float64)
        threshold = checks.as_tensor(self.clip_threshold, tf.float64)
        lengths = tf.maximum(epsilon, sizes) * factors
        lengths *= tf.minimum(rate, tf.math.rsqrt(number))
        lengths /= tf.maximum(
            tf.ones([], tf.float64), tf.sqrt(squares / counts) / threshold
        )
        decayed = [op_calls.may_decay(update.weight_decay) for update in updates]
        sign = 1.0
        if any(decayed):  # no op takes a weight decay below 0, or one not finite
            is_finite = tf.math.is_finite(rate)
            sign = tf.where(is_finite, tf.sign(rate), rate)
            decays = [tf.where(is_finite, sign * decay, 1.0) for decay in decays]
            lengths *= tf.where(is_finite, sign, 1.0)
        numbers = dataclasses.replace(numbers, learning_rate=sign)
        updates = [
            dataclasses.replace(
                update, rate_factor=1.0, weight_decay=decay if decays_too else 0.0
            )
            for update, decay, decays_too in zip(updates, decays, decayed, strict=True)
        ]
        return lengths, numbers, updates
