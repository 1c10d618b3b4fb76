"""Gradient descent, with momentum and Nesterov's."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


@flavour.register
class SGD(flavour.FusedOptimizer, tf.keras.optimizers.SGD):
    r"""SGD: gradient descent, plain or with momentum.

    With g the gradient of variable p:

        p -= learning_rate * g                      or, with momentum:
        m = momentum * m - learning_rate * g
        p += m                                      or, with nesterov:
        p += momentum * m - learning_rate * g

    All variables of one device and dtype are updated by one op, in one pass over
    memory.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.01.
        momentum: the decay of m, a float in [0, 1]; 0 leaves m out. Default: 0.0.
        nesterov: whether to step from where m leads to. Default: False.
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

    Variables may be float16, bfloat16, float32 or float64; with `momentum` > 0 the slot
    `momentum` has the variable's shape, and its dtype or float32 for 16-bit variables.
    (tf_keras keeps the slot with `momentum=0` too.)

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = SGD(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.0000

    Differences from Keras:
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock moves every row by its momentum.
        - Slots of 16-bit variables are float32.
        - Under tf_keras repeated indices are summed before Nesterov's step.

    Reference:
        [Polyak, 1964](https://doi.org/10.1016/0041-5553(64)90137-5);
        [Sutskever et al., 2013](https://proceedings.mlr.press/v28/sutskever13.html)
        for `nesterov`.
    """

    _spec = specs.SPECS["SGD"]

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: Number = 0.0,
        nesterov: bool = False,
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
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self._check_arguments(sparse_update)
