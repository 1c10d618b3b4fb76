"""AdamW: Adam with weight decay."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


@flavour.register
class AdamW(flavour.FusedOptimizer, tf.keras.optimizers.AdamW):
    r"""AdamW: Adam with decoupled weight decay.

    With g the gradient of variable p and t the number of the step, from 1:

        p -= learning_rate * weight_decay * p
        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        alpha = learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t)
        p -= alpha * m / (sqrt(v) + epsilon)

    It is `Adam`'s op, in which the decay costs no pass of its own; with `amsgrad` the
    largest v so far is in the place of v.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.001.
        weight_decay: the rate at which variables shrink, >= 0;
            `exclude_from_weight_decay` leaves some out. Default: 0.004.
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        amsgrad: whether to use the largest v so far. Default: False.
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
            others: `clipnorm`, `clipvalue`, `global_clipnorm`,
            `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, and in Keras 3 `loss_scale_factor` and
            `gradient_accumulation_steps`.

    Variables may be float16, bfloat16, float32 or float64; slots (`momentum`,
    `velocity`, and with `amsgrad` `velocity_hat`) have the variable's shape, and its
    dtype or float32 for 16-bit variables.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = AdamW(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.8960

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots and moves them. Weight
          decay too reaches the named rows only.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta^t` is computed in float64.

    Reference:
        [Loshchilov and Hutter, 2019](https://arxiv.org/abs/1711.05101);
        [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980).
    """

    _spec = specs.SPECS["AdamW"]

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: Number | None = 0.004,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        amsgrad: bool = False,
        clipnorm: Number | None = None,
        clipvalue: Number | None = None,
        global_clipnorm: Number | None = None,
        sparse_update: SparseUpdate = "lazy",
        name: str | None = None,
        **kwargs: Unpack[KerasArguments],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self._check_arguments(sparse_update)
