"""NovoGrad."""

from __future__ import annotations

import dataclasses

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import (
    base,
    checks,
    flavour,
    norms,
    op_calls,
    shards,
    specs,
    tensor_steps,
)
from tf_optim.annotations import LearningRate, Number, SharedArguments

# What the step is, once a gradient is divided: momentum.
_MOMENTUM = specs.Spec("SGD", name="NovoGrad")


def _one(shape):
    del shape
    return ()


class _PerVariable(specs.Spec):
    """Of an optimizer with numbers per variable, which no rule has."""

    needs_whole_table = True
    slots = (
        specs.Slot("momentum", "_momentums"),
        specs.Slot("velocity", "_velocities", _one, positive=True),
        specs.Slot("velocity_hat", "_velocity_hats", _one, optional=True),
    )
    said_of_variables = (
        "Variables may be float16, bfloat16, float32 or float64. `momentum` has the "
        "variable's shape, and its dtype or float32 for 16-bit variables; `velocity` "
        "and `velocity_hat` (with its option) are one number each. Gradients are read "
        "once for their norms, and all variables of one device and dtype are updated "
        "by one op."
    )


@flavour.register
class NovoGrad(flavour.FusedOptimizer, base.Optimizer):
    r"""NovoGrad: momentum of gradients divided by a norm, one for each variable.

    With g the gradient of variable p:

        v = beta_2 * v + (1 - beta_2) * sum(g^2), and sum(g^2) where v is 0
        d = g / (sqrt(v) + epsilon) + weight_decay_rate * p
        m = beta_1 * m - learning_rate * d
        p += m

    and with `grad_averaging` (1 - beta_1) * d in the place of d, but where v was 0;
    with `amsgrad` the largest v so far in the place of v.

    Args:
        beta_1: the decay of m, in [0, 1]. Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        grad_averaging: whether m is a mean. Default: False.
        amsgrad: whether to use the largest v so far. Default: False.
        weight_decay_rate: the rate of the decay that is part of the step, >= 0; not
            for sparse gradients, and at the cost of a pass of its own. Default: 0.0.

    Example:

    >>> opt = NovoGrad(learning_rate=0.1)
    >>> var = tf.Variable([3.0, 4.0])
    >>> _ = opt.apply_gradients([(tf.identity(var), var)])  # of |var|^2 / 2
    >>> print(f"{var.numpy()[0]:.4f}")
    2.9400

    Differences from TensorFlow Addons:
        - Its `weight_decay` is `weight_decay_rate`; `weight_decay`, as with all
          optimizers here, is decoupled.
        - A variable whose first gradient comes late starts as others do: there it is
          the optimizer's first step that counts.
        - `velocity_hat` is one number. Repeated indices are summed before the norm.

    Reference:
        [Ginsburg et al., 2019](https://arxiv.org/abs/1905.11286).
    """

    _spec = _PerVariable(
        "SGD",
        attributes={"momentum_rate": "beta_1"},
        switches={"velocity_hat": "amsgrad"},
        checked=(
            specs.Hyper("", "beta_2", high=1.0),
            specs.Hyper("", "epsilon"),
            specs.Hyper("", "weight_decay_rate"),
        ),
        is_rule=False,
    )
    nesterov = False

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-7,
        grad_averaging: bool = False,
        amsgrad: bool = False,
        *,
        weight_decay_rate: Number = 0.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _make_slot(self, variable, slot):
        if shards.table_of(variable) is not None:
            raise ValueError(
                "NovoGrad must be given whole variables: its norm is one number of "
                f"all rows. Received: '{variable.name}', a part of a table that is "
                "split over parameter servers."
            )
        return super()._make_slot(variable, slot)

    def _hyper_of(self, variable):
        return () if self._is_decayed(variable) else (("weight_decay_rate", 0.0),)

    def _apply_updates(self, numbers, updates, scale):
        decays = op_calls.may_decay(checks.as_number(self.weight_decay_rate))
        for update in updates:
            if decays and update.is_sparse:
                raise ValueError(
                    "`weight_decay_rate` must be 0 for a sparse gradient. Received: "
                    f"weight_decay_rate={self.weight_decay_rate!r} and "
                    f"tf.IndexedSlices for '{update.variable.name}'."
                )
        if decays or numbers.clip_value:
            updates = tensor_steps.seen_by_a_rule(numbers, updates, scale)
            numbers, scale = dataclasses.replace(numbers, clip_value=0.0), None
        is_first = [tf.equal(update.slots[1], 0) for update in updates]
        shares = self._shares(is_first)
        factors, assignments = self._factors(is_first, updates, scale)
        if decays:
            updates = self._decayed_gradients(numbers, updates, factors)
            factors = shares
        else:
            factors *= shares
        updates = [dataclasses.replace(u, slots=u.slots[:1], hyper=()) for u in updates]
        ops = op_calls.call_ops(_MOMENTUM, numbers, updates, factors)
        return tensor_steps.assign_behind(ops, assignments)

    def _factors(self, is_first, updates, scale):
        """What gradients are multiplied by, and pairs of a slot and its new value."""
        squares = norms.Norms(
            [update.gradient for update in updates],
            [update.variable for update in updates],
        ).squares
        if scale is not None:
            squares *= tf.square(scale)
        beta = checks.as_tensor(self.beta_2, tf.float64)
        roots, assignments = [], []
        for first, update, square in zip(
            is_first, updates, tf.unstack(squares), strict=True
        ):
            velocity, largest = update.slots[1:]
            keep = tf.where(first, tf.zeros_like(beta), beta)
            mean = keep * tf.cast(velocity, tf.float64) + (1.0 - keep) * square
            assignments.append((velocity, tf.cast(mean, velocity.dtype)))
            if largest is not None:
                mean = tf.maximum(tf.cast(largest, tf.float64), mean)
                assignments.append((largest, tf.cast(mean, largest.dtype)))
            roots.append(tf.sqrt(mean))
        factors = 1.0 / (tf.stack(roots) + checks.as_tensor(self.epsilon, tf.float64))
        return factors if scale is None else factors * scale, assignments

    def _shares(self, is_first):
        """Of a step in the momentum, for each variable."""
        ones = tf.ones([len(is_first)], tf.float64)
        if not self.grad_averaging:
            return ones
        rest = ones - checks.as_tensor(self.beta_1, tf.float64)
        return tf.where(tf.stack(is_first), ones, rest)

    def _decayed_gradients(self, numbers, updates, factors):
        """Divided gradients, with the decay of this class added."""
        learning_rate = checks.as_tensor(numbers.learning_rate, tf.float64)
        made = []
        for update, factor in zip(updates, tf.unstack(factors), strict=True):
            dtype = update.gradient.dtype
            step = update.gradient * tf.cast(factor, dtype)
            if not update.hyper:
                rate = checks.as_tensor(self.weight_decay_rate, tf.float64)
                # The op is still to shorten the variable by the other decay.
                other = checks.as_tensor(update.weight_decay, tf.float64)
                rate *= 1.0 - learning_rate * update.rate_factor * other
                step += tf.cast(rate, dtype) * tf.cast(update.variable, dtype)
            made.append(dataclasses.replace(update, gradient=step))
        return made
