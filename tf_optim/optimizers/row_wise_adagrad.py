"""Row-wise Adagrad."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


@flavour.register
class RowWiseAdagrad(flavour.FusedOptimizer, tf.keras.optimizers.Adagrad):
    r"""RowWiseAdagrad: Adagrad with one accumulator for each row of a table.

    With g the gradient of variable p, whose first dimension counts its rows:

        a[row] += mean(g[row]^2)
        p[row] -= learning_rate * g[row] / sqrt(a[row] + epsilon)

    For embedding tables: the slot is 4 bytes a row instead of as much as the table. A
    variable of rank 1 has rows of one number, a scalar is a row. All variables of one
    device and dtype are updated by one op, in one pass over memory.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.001.
        initial_accumulator_value: what a starts at, >= 0. Default: 0.1.
        epsilon: added under the root, >= 0. Default: 1e-7.
        sparse_update: what a sparse gradient (`tf.IndexedSlices`) changes.
            `"lazy"`: only the rows it names, slots and weight decay included;
            the cost follows those rows. `"dense"`: all rows, exactly as the
            equivalent dense gradient. `"exact"`: the result of `"dense"` at the
            cost of the rows, for tables that are read by `tf_optim.Embedding` or
            `tf_optim.lookup` (others take `"dense"` steps). `"eventual"`: as
            `"exact"`, but a row is brought up to date when it is next updated.
            Default: `"lazy"`.
        name: the optimizer's name. Default: `"row_wise_adagrad"`.
        **kwargs: `use_locking`, whether sparse steps of several workers on one
            variable wait for each other (default: True), and the stock class's
            others: `weight_decay`, `clipnorm`, `clipvalue`,
            `global_clipnorm`, `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, and in Keras 3 `loss_scale_factor` and
            `gradient_accumulation_steps`.

    Variables may be float16, bfloat16, float32 or float64; the slot `accumulator` has
    shape [rows], and the variable's dtype or float32 for 16-bit variables.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = RowWiseAdagrad(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9001

    Differences from Keras:
        - Keras has no such optimizer; everything else is as in its Adagrad.
        - Repeated indices of a sparse gradient are summed before anything else.
        - The paper and FBGEMM start a at 0 and add epsilon to the root instead; here
          both are as in Keras' Adagrad.

    Reference:
        [Naumov et al., 2019](https://arxiv.org/abs/1906.00091), section 4; FBGEMM's
        exact row-wise Adagrad.
    """

    _spec = specs.SPECS["RowWiseAdagrad"]

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: Number = 0.1,
        epsilon: Number | None = 1e-7,
        weight_decay: Number | None = None,
        clipnorm: Number | None = None,
        clipvalue: Number | None = None,
        global_clipnorm: Number | None = None,
        sparse_update: SparseUpdate = "lazy",
        name: str | None = "row_wise_adagrad",
        **kwargs: Unpack[KerasArguments],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            initial_accumulator_value=initial_accumulator_value,
            epsilon=epsilon,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self._check_arguments(sparse_update)

    def _make_slots(self, variables):
        super(tf.keras.optimizers.Adagrad, self).build(variables)
        self._accumulators = [
            self._add_row_slot(v, "accumulator", self.initial_accumulator_value)
            for v in variables
        ]
        self._mark_built()
