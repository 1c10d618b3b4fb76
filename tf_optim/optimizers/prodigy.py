"""Prodigy."""

from __future__ import annotations

import dataclasses
import functools
from numbers import Real

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import (
    base,
    checks,
    flavour,
    keras_private,
    op_calls,
    replicas,
    shards,
    specs,
    tensor_steps,
)
from tf_optim.annotations import LearningRate, Number, SharedArguments

# What the step is, once its length is known.
_ADAM = specs.Spec("Adam", name="Prodigy")
_BETA_3 = specs.Hyper("", "beta_3", high=1.0, closed=True)
_GROWTH_RATE = specs.Hyper("", "growth_rate", low=1.0)
# Steps so late that Adam's op has nothing to correct: beta^t is 0 there.
_LATE = 2**40


def _one(shape):
    del shape
    return ()


class _Estimating(specs.Spec):
    """Of an optimizer that has sums over all variables beside a rule's slots."""

    needs_whole_table = True
    slots = (
        specs.Slot("momentum", "_momentums"),
        specs.Slot("velocity", "_velocities", positive=True),
        specs.Slot("gradient_sum", "_gradient_sums"),
        specs.Slot("start", "_starts"),
        specs.Slot("sum_norm", "_sum_norms", _one, positive=True, dtype="float64"),
    )
    said_of_variables = (
        "Variables may be float16, bfloat16, float32 or float64; slots (`momentum`, "
        "`velocity`, `gradient_sum`, `start`) have the variable's shape, and its dtype "
        "or float32 for 16-bit variables; `sum_norm` is one float64. `start` is what "
        "the variable is when the optimizer is built: load weights before. The sums "
        "are TensorFlow's operations, and all variables of one device and dtype are "
        "then updated by one op."
    )


@flavour.register
class Prodigy(flavour.FusedOptimizer, base.Optimizer):
    r"""Prodigy: Adam that finds its learning rate while it trains.

    The length of a step is an estimate d of the distance from the start to a solution.
    d begins at `d0` and grows. With g the gradient of variable p, p0 what p was at the
    start, and `<a, b>` the sum of a * b over all elements of all variables:

        rate = learning_rate * d
        r = beta_3 * r + d / d0 * rate * <g, p0 - p>
        s = beta_3 * s + d / d0 * rate * g
        m = beta_1 * m + (1 - beta_1) * d * g
        v = beta_2 * v + (1 - beta_2) * (d * g)^2
        d = max(d, d_coef * r / sum(|s|))
        p -= rate * (m / (sqrt(v) + d * epsilon) + weight_decay * p)

    A `learning_rate` of 1.0 is right for most models; a schedule that falls to 0, such
    as `tf.keras.optimizers.schedules.CosineDecay(1.0, steps)`, is recommended.

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        beta_3: the decay of r and s, in [0, 1]. Default: None, the root of `beta_2`.
        epsilon: what is added to the root, in units of d, >= 0. Default: 1e-8.
        d0: the first d, > 0. Default: 1e-6.
        d_coef: what an estimate is multiplied by, > 0. Default: 1.0.
        growth_rate: how many times as large d may become in a step, >= 1.
            Default: None, for no bound.
        use_bias_correction: whether the rate is multiplied by sqrt(1 - beta_2^t) /
            (1 - beta_1^t), with t the number of the step, from 1. Default: False.
        safeguard_warmup: whether s leaves out the learning rate: for schedules that
            begin near 0. Default: False.

    Example:

    >>> opt = Prodigy()
    >>> var = tf.Variable(10.0)
    >>> for _ in range(100):
    ...     _ = opt.apply_gradients([(tf.identity(var), var)])  # of var^2 / 2
    >>> print(f"{abs(var.numpy()) < 1.0} {0.1 < opt.estimate.numpy() < 20.0}")
    True True

    A float16 or bfloat16 variable does not see steps of 1e-6, so that d does not grow:
    take a larger `d0`, or `stochastic_rounding=True`.

    Differences from the authors' program for torch:
        - Weight decay is always decoupled. A step with gradients of 0 alone, or with a
          learning rate of 0, is taken and counted.
        - With sparse gradients ("lazy") m, v and s of the rows named change, and the
          sums are of these rows; sum(|s|) is of the whole table.

    Reference:
        [Mishchenko and Defazio, 2023](https://arxiv.org/abs/2306.06101).
    """

    _spec = _Estimating(
        "Adam",
        starts_at_variable=("start",),
        slot_dtypes=("float32",),
        why_not_packed="its sums are of whole slots",
        checked=(specs.Hyper("", "d0"), specs.Hyper("", "d_coef")),
        is_rule=False,
    )
    # Of the last step's sums, between the op and what follows it.
    _found = None

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        beta_3: Number | None = None,
        epsilon: Number = 1e-8,
        *,
        d0: float = 1e-6,
        d_coef: Number = 1.0,
        growth_rate: Number | None = None,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _check_hyperparameters(self):
        super()._check_hyperparameters()
        for hyper in (_BETA_3, _GROWTH_RATE):
            value = getattr(self, hyper.attribute)
            if value is not None and value != float("inf"):
                hyper.check(value)
        if not isinstance(self.d0, Real) or not self.d0 > 0:
            raise ValueError(f"`d0` must be a number > 0. Received: d0={self.d0!r}")

    def _make_slot(self, variable, slot):
        if shards.table_of(variable) is not None:
            raise ValueError(
                "Prodigy must be given whole variables. Received: "
                f"'{variable.name}', a part of a table that is split over parameter "
                "servers."
            )
        return super()._make_slot(variable, slot)

    # --- numbers of the whole optimizer

    def _make_numbers(self):
        def make(name, value):
            def exactly(*args, **kwargs):  # Keras' Constant would be a float32
                return tf.constant(value, tf.float64)

            return self.add_variable(
                shape=(), initializer=exactly, dtype="float64", name=name
            )

        self._estimate = make("estimate", self.d0)
        self._largest_estimate = make("largest_estimate", self.d0)
        self._numerator = make("numerator", 0.0)

    @property
    def estimate(self) -> tf.Tensor:
        """d as it is now, a float64 scalar; `d0` before the optimizer is built."""
        if not self._is_built():
            return tf.constant(self.d0, tf.float64)
        return tf.convert_to_tensor(keras_private.raw(self._estimate))

    def _all_numbers(self):
        numbers = self._estimate, self._largest_estimate, self._numerator
        return tuple(map(keras_private.raw, numbers))

    def _per_step_hyper(self):
        self._found = None
        return tuple(map(tf.convert_to_tensor, self._all_numbers()))

    def _after_step(self, per_step):
        if self._found is None:  # a subclass has updated the variables
            return
        for number, value in zip(self._all_numbers(), self._found, strict=True):
            replicas.assign(number, value)

    def update_step(self, *args: object, **kwargs: object) -> None:
        """Raises ValueError: a step is of all variables."""
        raise ValueError(
            "Prodigy must be given all gradients of a step at once, by `apply` or "
            "`apply_gradients`: its length depends on all of them. Received: a call of "
            "`update_step`."
        )

    def _own_numbers(self, members):
        variables = {id(member.variable) for member in members}
        if len(variables) < len(members):
            raise ValueError(
                "Prodigy must be given each variable once: sums are of all variables. "
                f"Received: {len(members)} gradients for {len(variables)} variables."
            )
        return super()._own_numbers(members)

    # --- the step

    def _apply_updates(self, numbers, updates, scale):
        beta_1, beta_2, epsilon, estimate, largest, numerator = (
            checks.as_tensor(number, tf.float64) for number in numbers.hyper
        )
        beta_3 = tf.sqrt(beta_2)
        if self.beta_3 is not None:
            beta_3 = checks.as_tensor(self.beta_3, tf.float64)
        rate = estimate * checks.as_tensor(numbers.learning_rate, tf.float64)
        if self.use_bias_correction:
            step = tf.cast(numbers.iterations + 1, tf.float64)
            rate *= tf.sqrt(1.0 - beta_2**step) / (1.0 - beta_1**step)
        grown = estimate / float(self.d0)
        gains, norms, pairs = [], [], []
        for update in tensor_steps.seen_by_a_rule(numbers, updates, scale):
            length = rate * update.rate_factor
            weight = grown * (estimate if self.safeguard_warmup else length)
            gain, norm, assigned = _sums(update, beta_3, weight)
            gains.append(grown * length * gain)
            norms.append(norm)
            pairs += assigned
        numerator = beta_3 * numerator + tf.add_n(gains)
        ratio = tf.math.divide_no_nan(numerator, tf.add_n(norms))
        ratio *= checks.as_tensor(self.d_coef, tf.float64)
        estimate_after, largest = self._grown(estimate, largest, ratio)
        self._found = estimate_after, largest, numerator
        numbers = dataclasses.replace(
            numbers,
            learning_rate=rate,
            iterations=_LATE + numbers.iterations,  # what rounding draws from
            hyper=(beta_1, beta_2, epsilon * self._finite(estimate_after)),
            clip_value=numbers.clip_value
            and numbers.clip_value * self._finite(estimate),
        )
        updates = [dataclasses.replace(u, slots=(*u.slots[:2], None)) for u in updates]
        factors = tf.fill([len(updates)], estimate)
        factors = factors if scale is None else factors * scale
        ops = op_calls.call_ops(_ADAM, numbers, updates, factors)
        return tensor_steps.assign_behind(ops, pairs)

    def _finite(self, estimate):
        # NaN reaches the variables by the rate; the op refuses it as an epsilon.
        return tf.where(tf.math.is_finite(estimate), estimate, float(self.d0))

    def _grown(self, estimate, largest, ratio):
        """The next estimate, and the largest ratio so far."""
        largest = tf.maximum(largest, ratio)
        if self.growth_rate is None or self.growth_rate == float("inf"):
            return largest, largest
        first = tf.equal(estimate, float(self.d0))
        estimate = tf.where(first, tf.maximum(estimate, ratio), estimate)
        estimate *= checks.as_tensor(self.growth_rate, tf.float64)
        return tf.minimum(largest, estimate), largest


def _sums(update, beta_3, weight):
    """<g, p0 - p>, sum(|s|), and pairs of a slot and its new value.

    Args:
        update: an `op_calls.VariableUpdate`, its gradient as a rule sees it.
        beta_3: what remains of s.
        weight: what g is multiplied by in s.
    """
    *_, total, start, norm = update.slots
    some = update.is_sparse and update.mode != "dense"
    if some:
        gradient, rows = update.gradient.values, update.gradient.indices
        # XLA reads others for ids that no row has: they are to count nowhere.
        read = functools.partial(tensor_steps.rows_there_are, rows=rows)
    else:
        gradient, read = tensor_steps.whole(update), tf.convert_to_tensor
    dtype = gradient.dtype
    gain = tf.reduce_sum(
        gradient * (read(start) - tf.cast(read(update.variable), dtype))
    )
    before = read(total)
    after = tf.cast(beta_3, dtype) * before + tf.cast(weight, dtype) * gradient
    if some:  # the other rows are as they were
        change = tf.cast(tf.abs(after), tf.float64) - tf.cast(
            tf.abs(before), tf.float64
        )
        length = norm + tf.reduce_sum(change)
        after = tf.IndexedSlices(after, rows)
    else:
        length = tf.cast(tf.reduce_sum(tf.abs(after)), tf.float64)
    return tf.cast(gain, tf.float64), length, [(total, after), (norm, length)]
