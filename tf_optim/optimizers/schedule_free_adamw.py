"""ScheduleFreeAdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import (
    base,
    checks,
    extension,
    flavour,
    keras_private,
    op_calls,
    specs,
)
from tf_optim.annotations import LearningRate, Number, SharedArguments
from tf_optim.keras_private import raw

_AT_MEAN = "at_mean"
_MUST_BE_AT_P, _MUST_BE_AT_X = (
    f"The variables must be at {point}. Received: an optimizer whose variables are at "
    f"{other}."
    for point, other in (
        ("p (call `train_on`)", "x"),
        ("x (call `evaluate_at_mean`)", "p"),
    )
)


@flavour.register
class ScheduleFreeAdamW(  # type: ignore[misc]
    flavour.FusedOptimizer,
    base.stock("ScheduleFreeAdamW"),  # type: ignore[misc]
):
    r"""ScheduleFreeAdamW: AdamW with a mean in the place of a learning rate schedule.

    With g the gradient at variable p and t the number of the step, from 1:

        r = learning_rate * min(t / warmup_steps, 1)
        v += (1 - beta_2) * (g^2 - v)
        x = (p - (1 - beta_1) * z) / beta_1
        z -= r * (g / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay * p)
        x += (z - x) / t
        p = (1 - beta_1) * z + beta_1 * x

    z, which starts at p, takes AdamW's steps and is the slot `momentum`; x is the mean
    of all z. Gradients are those at p; the point to evaluate and to keep is x:
    `evaluate_at_mean` sets the variables to it, `train_on` sets them back.

    Whatever else sets the variables, such as averages that overwrite them
    (`ema_overwrite_frequency`) or a constraint, moves x in place of z, and z no more
    leads to where x is.

    Args:
        beta_1: where between z (0) and x (1) gradients are taken, in [0, 1].
            Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-8.
        warmup_steps: how long the learning rate grows, >= 0. Default: 0.

    Example:

    >>> opt = ScheduleFreeAdamW(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> for _ in range(2):
    ...     _ = opt.apply_gradients([(tf.identity(var), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.8453
    >>> opt.evaluate_at_mean([var])
    >>> print(f"{var.numpy():.4f}")
    9.8503
    >>> opt.train_on([var])

    Differences from Keras:
        - Keras under TensorFlow (and torch) takes z from after the step where the
          formula has z from before it: its x is another one. Under JAX and NumPy the
          same code takes the step that is taken here.
        - z starts at p. In Keras it does so in an eager program alone: in a function,
          such as that of `fit`, z starts at 0 and the first step moves p there.
        - `weight_decay` is a part of z's step, as in the paper. Keras multiplies the
          variable itself, which takes the decay of each step from x alone. In a
          subclass with an `update_step` of its own decay is a part of that.
        - Keras has no way to the point x. A step that is taken there is an error (but
          not in a function that XLA compiles, which leaves such checks out).
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock moves them towards z.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `beta_1=0` works: nothing is divided by it, but x is then unknown.
        - tf_keras has no ScheduleFreeAdamW; ours works there too.

    Reference:
        [Defazio et al., 2024](https://arxiv.org/abs/2405.15682).
    """

    _spec = specs.Spec(
        "ScheduleFreeAdamW",
        attributes={"weight_decay_rate": "_decay_of_z"},
        starts_at_variable=("momentum",),
        is_stocks_step=False,
        slot_dtypes=("float32",),
        why_not_packed="one of them is the variable at another point",
    )
    _at_mean: Any = None  # a bool variable, once it is built

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.0025,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-8,
        warmup_steps: Number = 0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _make_slots(self, variables):
        # Not by stock's `build`, which assigns to z when it is made.
        tf.keras.optimizers.Optimizer.build(self, variables)
        base.make_slots(self, variables, by_variable=True)
        # Saved with the slots, but none of stock's variables.
        self._at_mean = tf.Variable(False, trainable=False, name=_AT_MEAN)

    @property
    def _decay_of_z(self):
        return 0.0 if self.weight_decay is None else self.weight_decay

    def _hyper_of(self, variable):
        own_way = extension.overridden(self, extension.DECAY)
        decays = op_calls.may_decay(checks.as_number(self._decay_of_z))
        if not decays or (self._is_decayed(variable) and not own_way):
            return ()
        return (("weight_decay_rate", 0.0),)

    def _decay_of(self, variable):
        return 0.0  # the rule decays z

    def evaluate_at_mean(self, variables: Iterable[Any]) -> None:
        """Sets variables to the mean x, for evaluation and for saving a model.

        Args:
            variables: of those that the optimizer was built with, each at p.

        Raises:
            ValueError: with `beta_1=0`, or if they are there already.
        """
        self._check_point(False)
        if not float(self.beta_1):
            raise ValueError("`beta_1` must be > 0 for x to be known. Received: 0.0")
        self._move(variables, lambda p, z, b: (p - (1.0 - b) * z) / b)
        self._at_mean.assign(True)

    def train_on(self, variables: Iterable[Any]) -> None:
        """Sets variables back to p, after `evaluate_at_mean`.

        Args:
            variables: those that were given there.

        Raises:
            ValueError: if they are at p already.
        """
        self._check_point(True)
        self._move(variables, lambda x, z, b: b * x + (1.0 - b) * z)
        self._at_mean.assign(False)

    def _move(self, variables, to):
        self.catch_up()
        variables = list(variables)
        # Of all before the first is moved: one may be none of the optimizer's.
        slots = [keras_private.slots_of(self, variable)[0] for variable in variables]
        for variable, z in zip(variables, slots, strict=True):
            at = tf.cast(raw(variable), z.dtype)
            moved = to(at, z, tf.cast(self.beta_1, z.dtype))
            variable.assign(tf.cast(moved, raw(variable).dtype))

    def _is_at_mean(self):
        with tf.init_scope():
            return self._at_mean is not None and bool(tf.identity(self._at_mean))

    def _check_point(self, at_mean):
        if self._at_mean is None:
            raise ValueError(
                "The optimizer must be built. Received: one without slots."
            )
        if self._is_at_mean() != at_mean:
            raise ValueError(_MUST_BE_AT_X if at_mean else _MUST_BE_AT_P)

    def _check_hyperparameters(self):
        super()._check_hyperparameters()
        if self._at_mean is not None and tf.executing_eagerly():
            self._check_point(False)

    def _apply_updates(self, numbers, updates, scale):
        if tf.executing_eagerly():
            return super()._apply_updates(numbers, updates, scale)
        # The function may have been traced before the variables were moved.
        is_at_p = tf.logical_not(tf.convert_to_tensor(self._at_mean))
        with tf.control_dependencies([tf.debugging.Assert(is_at_p, [_MUST_BE_AT_P])]):
            return super()._apply_updates(numbers, updates, scale)

    def save_own_variables(self, store: Any) -> None:
        """Stores the variables, and whether the model's are at x, if they are."""
        super().save_own_variables(store)
        if self._is_at_mean():
            store[_AT_MEAN] = np.array(True)

    def load_own_variables(self, store: Any) -> None:
        """Sets what `save_own_variables`, or stock's, has stored."""
        stored = dict(store)
        at_mean = stored.pop(_AT_MEAN, False)
        super().load_own_variables(stored)
        if self._at_mean is not None:
            self._at_mean.assign(bool(at_mean))
