"""Lamb."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


def _stock():
    """Keras 3's class, or what stands in for it in tf_keras, which has none."""
    if flavour.is_keras_3():
        return tf.keras.optimizers.Lamb

    class Lamb(tf.keras.optimizers.Adam):
        def __init__(self, **kwargs):
            super().__init__(amsgrad=False, **kwargs)

        def get_config(self) -> dict[str, Any]:
            config = super().get_config()
            del config["amsgrad"]
            return config

    return Lamb


@flavour.register
class Lamb(flavour.FusedOptimizer, _stock()):  # type: ignore[misc]
    r"""Lamb: Adam's step, as long as the variable that it changes.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        r = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
        p -= learning_rate * norm(p) / norm(r) * r

    The ratio of norms is 1 where a norm is 0. All variables of one device and dtype are
    updated by one op, in two passes over memory: the norms are those of the whole
    variable or, with `sparse_update="lazy"`, of the rows that the gradient names.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.001.
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        sparse_update: what a sparse gradient (`tf.IndexedSlices`) changes.
            `"lazy"`: only the rows it names, slots and weight decay included;
            the cost follows those rows. `"dense"`: all rows, exactly as the
            equivalent dense gradient. Default: `"lazy"`.
        name: the optimizer's name. Default: as the stock class's.
        **kwargs: `use_locking`, whether sparse steps of several workers on one
            variable wait for each other (default: True), and the stock class's
            others: `weight_decay`, `clipnorm`, `clipvalue`,
            `global_clipnorm`, `use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, and in Keras 3 `loss_scale_factor` and
            `gradient_accumulation_steps`.

    Variables may be float16, bfloat16, float32 or float64; slots (`momentum` m,
    `velocity` v) have the variable's shape, and its dtype or float32 for 16-bit
    variables.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = Lamb(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.0000

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots, moves them, and has them
          in the norms.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta^t` and the norms are computed in float64.
        - tf_keras has no Lamb; ours works there too.

    Reference:
        [You et al., 2020](https://arxiv.org/abs/1904.00962).
    """

    _spec = specs.SPECS["Lamb"]

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
