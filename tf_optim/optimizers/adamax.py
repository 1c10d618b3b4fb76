"""Adamax."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


@flavour.register
class Adamax(flavour.FusedOptimizer, tf.keras.optimizers.Adamax):
    r"""Adamax: Adam with the largest gradient in the place of the mean square.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        u = max(beta_2 * u, |g|)
        p -= learning_rate / (1 - beta_1^t) * m / (u + epsilon)

    All variables of one device and dtype are updated by one op, in one pass over
    memory.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.001.
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of u, in [0, 1). Default: 0.999.
        epsilon: added to u, >= 0. Default: 1e-7.
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

    Variables may be float16, bfloat16, float32 or float64; slots (`momentum` m, `norm`
    u) have the variable's shape, and its dtype or float32 for 16-bit variables.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = Adamax(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9000

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          adds to u once for each.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots and moves them.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta_1^t` is computed in float64.

    Reference:
        [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980), section 7.1.
    """

    _spec = specs.SPECS["Adamax"]

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
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
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self._check_arguments(sparse_update)
