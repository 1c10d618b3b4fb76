"""RMSprop, plain, with momentum, centered, or both."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import flavour, specs
from tf_optim.annotations import KerasArguments, LearningRate, Number, SparseUpdate


@flavour.register
class RMSprop(flavour.FusedOptimizer, tf.keras.optimizers.RMSprop):
    r"""RMSprop: the gradient divided by the root of its mean square.

    With g the gradient of variable p:

        v = rho * v + (1 - rho) * g^2
        d = v                      or, centered, with the mean gradient a:
        a = rho * a + (1 - rho) * g;  d = max(v - a^2, 0)
        u = learning_rate * g / sqrt(d + epsilon)
        p -= u                     or, with momentum:
        b = momentum * b + u;  p -= b

    All variables of one device and dtype are updated by one op, in one pass over
    memory.

    Args:
        learning_rate: a float, a
            `tf.keras.optimizers.schedules.LearningRateSchedule`, or a callable
            without arguments that returns a float. Default: 0.001.
        rho: the decay of v and a, in [0, 1). Default: 0.9.
        momentum: the decay of b, in [0, 1); 0 leaves b out. Default: 0.0.
        epsilon: added under the root, >= 0. Default: 1e-7.
        centered: whether to divide by the estimated standard deviation instead
            of the root mean square. Default: False.
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

    Variables may be float16, bfloat16, float32 or float64; slots (`velocity`,
    with `momentum` > 0 `momentum`, with `centered` `average_gradient`) have the
    variable's shape, and its dtype or float32 for 16-bit variables.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> opt = RMSprop(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.6f}")
    9.683772

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything
          else; stock squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots, and with momentum
          moves them.
        - Slots of 16-bit variables are float32.
        - The centered variance is kept from falling below zero by rounding,
          which in stock ends in NaN.

    Reference:
        [Hinton, 2012](
        https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf);
        [Graves, 2013](https://arxiv.org/abs/1308.0850) for `centered`.
    """

    _spec = specs.SPECS["RMSprop"]

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: Number = 0.9,
        momentum: Number = 0.0,
        epsilon: Number | None = 1e-7,
        centered: bool = False,
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
            momentum=momentum,
            epsilon=epsilon,
            centered=centered,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            name=name,
            **kwargs,
        )
        self._check_arguments(sparse_update)
