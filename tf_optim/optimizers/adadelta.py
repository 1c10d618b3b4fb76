"""Adadelta."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


@flavour.register
class Adadelta(flavour.FusedOptimizer, tf.keras.optimizers.Adadelta):
    r"""Adadelta: the gradient in units of the steps made so far.

    With g the gradient of variable p:

        A = rho * A + (1 - rho) * g^2
        d = sqrt(D + epsilon) / sqrt(A + epsilon) * g
        D = rho * D + (1 - rho) * d^2
        p -= learning_rate * d

    All variables of one device and dtype are updated by one op, in one pass over
    memory. The paper has no learning rate: pass 1.0.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.001.
        rho: the decay of A and D, in [0, 1). Default: 0.95.
        epsilon: added under both roots, >= 0. Default: 1e-7.
        sparse_update: what a sparse gradient (`tf.IndexedSlices`) changes.
            `"lazy"`: only the rows it names, slots and weight decay included;
            the cost follows those rows. `"dense"`: all rows, exactly as the
            equivalent dense gradient. `"exact"`: the result of `"dense"` at the
            cost of the rows, for tables that are read by `tf_optim.Embedding` or
            `tf_optim.lookup` (others take `"dense"` steps). `"eventual"`: as
            `"exact"`, but a row is brought up to date when it is next updated.
            Default: `"lazy"`.
        name: the optimizer's name. Default: as the stock class's.
        **kwargs: `use_locking`, whether sparse steps of several workers on one
            variable wait for each other (default: True), and the stock class's
            others: `weight_decay`, `clipnorm`, `clipvalue`,
            `global_clipnorm`, `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, and in Keras 3 `loss_scale_factor` and
            `gradient_accumulation_steps`.

    Variables may be float16, bfloat16, float32 or float64; slots (`accumulated_grad` A,
    `accumulated_delta_var` D) have the variable's shape, and its dtype or float32 for
    16-bit variables.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = Adadelta(learning_rate=1.0)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9986

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots.
        - Slots of 16-bit variables are float32.
        - Sparse gradients work under tf_keras too, where stock raises TypeError.

    Reference:
        [Zeiler, 2012](https://arxiv.org/abs/1212.5701).
    """

    _spec = specs.SPECS["Adadelta"]

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: Number = 0.95,
        epsilon: Number | None = 1e-7,
        weight_decay: Number | None = None,
        clipnorm: Number | None = None,
        clipvalue: Number | None = None,
        global_clipnorm: Number | None = None,
        sparse_update: SparseUpdate = "lazy",
        name: str | None = None,
        **kwargs: Unpack[KerasArguments],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            rho=rho,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self._check_arguments(sparse_update)
