"""The types of public arguments.

TensorFlow has no types of its own that a checker could read, so tensors are described
by what they have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias, TypedDict


class TensorLike(Protocol):
    """A tensor or variable of TensorFlow or Keras, an array or number of NumPy."""

    @property
    def shape(self) -> Any:
        """Its shape."""

    @property
    def dtype(self) -> Any:
        """Its dtype."""


class Schedule(Protocol):
    """A `tf.keras.optimizers.schedules.LearningRateSchedule`."""

    def __call__(self, step: Any, /) -> Any:
        """The learning rate of a step."""


Number: TypeAlias = float | TensorLike
LearningRate: TypeAlias = float | TensorLike | Schedule | Callable[[], Any]
SparseUpdate: TypeAlias = Literal["lazy", "dense", "exact", "eventual"]

# What stands for the stock class in a mixin beside one: its members are not known.
Mixin: Any = object


class KerasArguments(TypedDict, total=False):
    """Keyword arguments that all optimizers take beside those in their signatures.

    Attributes:
        use_locking: whether sparse steps of several workers on one variable wait for
            each other. Default: True.
        use_ema: whether moving averages of the variables are kept. Default: False.
        ema_momentum: of the averages, in [0, 1]. Default: 0.99.
        ema_overwrite_frequency: after so many steps variables are set to their
            averages. Default: None, for never.
        loss_scale_factor: gradients are of a loss multiplied by it; Keras 3 only.
            Default: None.
        gradient_accumulation_steps: gradients of so many steps are one update; Keras 3
            only. Default: None.
        jit_compile: of tf_keras, and without effect. Default: False.
        lr: the old spelling of `learning_rate`.
        decay: an old argument: the learning rate is divided by
            (1 + decay * iterations). Default: 0.
    """

    use_locking: bool
    use_ema: bool
    ema_momentum: Number
    ema_overwrite_frequency: int | None
    loss_scale_factor: Number | None
    gradient_accumulation_steps: int | None
    jit_compile: bool
    lr: LearningRate
    decay: float
