"""The types of public arguments.

TensorFlow has no types of its own that a checker could read, so tensors are described
by what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
SlotDtype: TypeAlias = str | Mapping[str, str] | Callable[[Any], str]
SparseUpdate: TypeAlias = Literal["lazy", "dense", "exact", "eventual"]


class Averaging(Protocol):
    """A `tf_optim.Lookahead` or `tf_optim.StochasticWeightAveraging`."""

    kind: str

    def is_due(self, steps: Any) -> Any: ...

    def kept(self, means: Any) -> Any: ...


# What stands for the stock class in a mixin beside one: its members are not known.
Mixin: Any = object


class ArgumentsButDecay(TypedDict, total=False):
    """`SharedArguments` of an optimizer with a `weight_decay` of its own."""

    clipnorm: Number | None
    clipvalue: Number | None
    global_clipnorm: Number | None
    sparse_update: SparseUpdate
    name: str | None
    exclude_from_weight_decay: Sequence[str] | None
    learning_rate_multipliers: Mapping[str, float] | None
    use_locking: bool
    slot_dtype: SlotDtype
    stochastic_rounding: bool | None
    cautious: bool
    averaging: Averaging | None
    use_ema: bool
    ema_momentum: Number
    ema_overwrite_frequency: int | None
    loss_scale_factor: Number | None
    gradient_accumulation_steps: int | None
    jit_compile: bool
    lr: LearningRate
    decay: float


class SharedArguments(ArgumentsButDecay, total=False):
    """The arguments that all optimizers take beside their own.

    Each class shows them in its signature and in its documentation, which
    `arguments.complete` makes of this text.

    Attributes:
        weight_decay: the rate of decoupled weight decay, >= 0: each step begins with
            p -= learning_rate * weight_decay * p. `exclude_from_weight_decay` leaves
            variables out. Default: None, for none.
        clipnorm: each gradient is scaled down to this norm, > 0. Default: None.
        clipvalue: each element of a gradient is clipped to this size, > 0.
            Default: None.
        global_clipnorm: all gradients together are scaled down to this norm, > 0.
            Default: None.
        sparse_update: what a sparse gradient (`tf.IndexedSlices`) changes.
            `"lazy"`: only the rows it names, slots and weight decay included;
            the cost follows those rows. `"dense"`: all rows, exactly as the
            equivalent dense gradient. `"exact"`: the result of `"dense"` at the
            cost of the rows, for tables that are read by `tf_optim.Embedding` or
            `tf_optim.lookup` (others take `"dense"` steps). `"eventual"`: as
            `"exact"`, but a row is brought up to date when it is next updated.
            Default: `"lazy"`.
        name: the optimizer's name. Default: as the stock class's, or the class's own
            in small letters.
        exclude_from_weight_decay: regular expressions; variables in whose path (Keras
            3; else: name) one of them occurs do not decay. As in ["bias", "norm"].
            Default: None.
        learning_rate_multipliers: by a regular expression, what the learning rate is
            multiplied by for the variables in whose path (Keras 3; else: name) it
            occurs; the first that does counts, and 0 freezes a variable. As in
            {"embedding": 0.1, "head/": 2.0}. Default: None.
        use_locking: whether sparse steps of several workers on one variable wait for
            each other. Default: True.
        slot_dtype: in what slots of one number per element are kept: `"float32"`,
            `"bfloat16"`, or `"int8"` (8 bits, with a scale for each 128 elements of a
            row), for variables of 4,096 elements and more in rows of 8 and more. A
            dict of regular expressions, looked for in a variable's path, to these,
            or a callable that takes a variable, choose for each. On CPUs of one
            machine, under MirroredStrategy too. Default: `"float32"`.
        stochastic_rounding: whether what is kept in fewer bits is rounded up or down
            at random, right in the mean. None: packed slots are, 16-bit variables are
            not. True: both. False: neither. Default: None.
        cautious: whether an element moves only where its step u has the sign of its
            gradient g, u * g > 0, and then by u / max(s, 0.001), where s is the share
            of the variable's elements that move (with `"lazy"`: of those in the rows
            named). It costs a second pass over memory, and is an error for an
            optimizer without a momentum and for some with one
            ([Liang et al., 2024](https://arxiv.org/abs/2411.16085)). Default: False.
        averaging: a `tf_optim.Lookahead` or `tf_optim.StochasticWeightAveraging`, in
            the place of `use_ema`. Default: None.
        use_ema: whether moving averages of the variables are kept. Default: False.
        ema_momentum: of the averages, in [0, 1]. Default: 0.99.
        ema_overwrite_frequency: after so many steps variables are set to their
            averages. Default: None, for never; 100 in tf_keras' RMSprop.
        loss_scale_factor: gradients are of a loss multiplied by it; Keras 3 only.
            Default: None.
        gradient_accumulation_steps: gradients of so many steps are one update; Keras 3
            only. Default: None.
        jit_compile: of tf_keras, and without effect. Default: False.
        lr: the old spelling of `learning_rate`.
        decay: an old argument: the learning rate is divided by
            (1 + decay * iterations). Default: 0.
    """

    weight_decay: Number | None
