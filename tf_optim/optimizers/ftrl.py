"""Follow the regularized leader."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


@flavour.register
class Ftrl(flavour.FusedOptimizer, tf.keras.optimizers.Ftrl):
    r"""Ftrl: follow the regularized leader, for sparse linear models.

    With g the gradient of variable p, q = -learning_rate_power and n, z slots:

        n' = n + g^2
        z += g + 2 * l2_shrinkage * p - (n'^q - n^q) / learning_rate * p
        d = n'^q / learning_rate + 2 * l2 + beta / learning_rate
        p = (clip(z, -l1, l1) - z) / d
        n = n'

    All variables of one device and dtype are updated by one op, in one pass over
    memory. `learning_rate_power=-0.5` needs a root; any other power is much slower.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.001.
        learning_rate_power: how the learning rate falls, <= 0. Default: -0.5.
        initial_accumulator_value: what n starts at, >= 0. Default: 0.1.
        l1_regularization_strength: l1, >= 0. Default: 0.0.
        l2_regularization_strength: l2, >= 0. Default: 0.0.
        l2_shrinkage_regularization_strength: l2_shrinkage, >= 0: a pull towards 0 that
            z remembers. Default: 0.0.
        beta: the paper's beta, >= 0. Default: 0.0.
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

    Variables may be float16, bfloat16, float32 or float64; slots (`accumulator` n,
    `linear` z) have the variable's shape, and its dtype or float32 for 16-bit
    variables.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = Ftrl(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.5840

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock sets them from z.
        - Slots of 16-bit variables are float32.

    Reference:
        [McMahan et al., 2013](https://research.google/pubs/pub41159/).
    """

    _spec = specs.SPECS["Ftrl"]

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        learning_rate_power: Number = -0.5,
        initial_accumulator_value: Number = 0.1,
        l1_regularization_strength: Number = 0.0,
        l2_regularization_strength: Number = 0.0,
        l2_shrinkage_regularization_strength: Number = 0.0,
        beta: Number = 0.0,
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
            learning_rate_power=learning_rate_power,
            initial_accumulator_value=initial_accumulator_value,
            l1_regularization_strength=l1_regularization_strength,
            l2_regularization_strength=l2_regularization_strength,
            l2_shrinkage_regularization_strength=l2_shrinkage_regularization_strength,
            beta=beta,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self._check_arguments(sparse_update)
