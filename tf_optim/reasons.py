"""Why a variable's update is not the fastest there is, and what to do about it."""

from __future__ import annotations

import dataclasses
import functools

import tensorflow as tf

from tf_optim import (
    averages,
    checks,
    conversion,
    exact,
    extension,
    fused,
    keras_private,
    library,
    loss_scale,
    prepared,
)


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why an update costs more than one pass of one op.

    Attributes:
        why: the reason, a sentence.
        remedy: what to do about it, a sentence.
    """

    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.why} {self.remedy}"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a variable's update.

    Attributes:
        optimizer: the model's, perhaps a `LossScaleOptimizer`.
        inner: the optimizer that it wraps, or itself.
        variable: a `tf.Variable`.
        given: the same, as Keras has it.
        is_sparse: whether its gradient is `tf.IndexedSlices`.
        regularizes_table: whether it is a table whose regularizer makes it dense.
        xla: whether the step is compiled by XLA; None for not known.
    """

    optimizer: object
    inner: object
    variable: tf.Variable
    given: object
    is_sparse: bool
    regularizes_table: bool
    xla: bool | None

    @property
    def is_ours(self):
        """Whether the step is one of tf_optim."""
        return isinstance(self.inner, fused.Fused)

    @property
    def is_by_row(self):
        """Whether a step visits only the rows that a batch names."""
        return self.is_sparse and self.is_ours and self.mode != "dense"

    @property
    def mode(self):
        """What the step of a sparse gradient is, as far as can be known before it."""
        mode, variable = self.inner.sparse_update, keras_private.raw(self.variable)
        if mode not in exact.MODES:
            return mode
        read = prepared.history_of(variable) is not None or (
            mode == "eventual" and prepared.can_prepare(variable)
        )
        by_rows = read and exact.may_step_by_rows(self.inner) and not self.xla
        return mode if by_rows else "dense"

    @property
    def is_on_gpu(self):
        """Whether the variable lies on a GPU."""
        return "GPU" in (self.variable.device or "")

    @property
    def accumulates(self):
        """Whether gradients are accumulated."""
        return bool(getattr(self.inner, "gradient_accumulation_steps", None))

    @functools.cached_property
    def average_rides(self):
        """Whether its moving average is updated by the same op."""
        if not self.is_ours or not self.inner.use_ema:
            return False
        replicated = getattr(self.variable, "distribute_strategy", None)
        return averages.rides(
            self.inner,
            [self.variable.device or ""],
            self.is_sparse,
            self.variable.constraint is not None,
            replicated is not None and replicated.num_replicas_in_sync > 1,
        )


def of(facts):
    """The `Reason`s of a variable, in the order of what they cost."""
    if not facts.is_ours:
        return [_stock(facts)]
    return [reason for find in _ALL for reason in [find(facts)] if reason is not None]


def _stock(facts):
    kind = type(facts.inner)
    if kind in dict(conversion.pairs()):
        return Reason(
            f"{kind.__name__} is Keras' own.",
            "Pass `tf_optim.fuse(optimizer)` to `compile`, or make "
            f"`tf_optim.{kind.__name__}`.",
        )
    return Reason(
        f"{kind.__name__} is not an optimizer of tf_optim.",
        "Choose one that tf_optim has.",
    )


def _dtype(facts):
    if facts.variable.dtype in checks.DTYPES:
        return None
    return Reason(
        f"There is no kernel for dtype {facts.variable.dtype.name}: the step raises "
        "an error.",
        "Leave the variable out, or give it a floating dtype.",
    )


def _subclass(facts):
    for names, cost in (
        (extension.UPDATE, "each variable takes an op call of its own"),
        (extension.CLIP, "gradients are clipped in passes of their own"),
        (extension.DECAY, "weight decay is a pass of its own"),
    ):
        for name in names:
            if extension.overridden(facts.inner, [name]):
                return Reason(
                    f"{type(facts.inner).__name__} overrides `{name}`, so {cost}.",
                    f"Leave `{name}` to tf_optim where its arguments suffice.",
                )
    return None


def _loss_scale(facts):
    if facts.optimizer is facts.inner:
        return None
    if isinstance(facts.optimizer, loss_scale.LossScaleOptimizer):
        return Reason(
            "LossScaleOptimizer looks for infinities in a pass over the gradient.",
            "Use bfloat16, which needs no loss scale, or in Keras 3 "
            "`loss_scale_factor`.",
        )
    dense = ", and makes a dense tensor of this sparse gradient" * facts.is_sparse
    return Reason(
        "LossScaleOptimizer looks for infinities and divides in passes of its own"
        f"{dense}.",
        "Use `tf_optim.LossScaleOptimizer`, which takes one pass, or bfloat16, which "
        "needs no loss scale.",
    )


def _whole_table(facts):
    if facts.regularizes_table:
        return Reason(
            "`embeddings_regularizer` makes the gradient of the table dense.",
            "Use the optimizer's `weight_decay` in its place: it decays the rows that "
            "a batch names.",
        )
    if facts.is_sparse and facts.mode != facts.inner.sparse_update:
        return Reason(
            f'sparse_update="{facts.inner.sparse_update}" takes dense steps here.',
            "docs/exact.md says when: most often the table must be read by "
            "`tf_optim.Embedding`, and without `jit_compile=True`.",
        )
    if facts.is_sparse and facts.mode == "dense":
        return Reason(
            'sparse_update="dense" visits every row of the table in each step.',
            'sparse_update="lazy" visits the rows that a batch names, and trains '
            "differently: the others no longer move by their momentum.",
        )
    return None


def _clip(facts):
    if isinstance(facts.optimizer, loss_scale.LossScaleOptimizer):
        return None  # one pass does both
    for name in ("clipnorm", "global_clipnorm"):
        if getattr(facts.inner, name) is not None:
            return Reason(
                f"`{name}` takes the norm of the gradient in a pass over it.",
                "`clipvalue` costs no pass; it bounds each number, not the norm.",
            )
    return None


def _accumulation(facts):
    if not facts.accumulates:
        return None
    if not facts.is_sparse:
        how = "adds each gradient to an accumulator in a pass of its own."
    elif facts.xla:
        how = (
            "adds the rows of each gradient to an accumulator; under XLA the step that "
            "ends a window goes over the whole table."
        )
    else:
        how = (
            "keeps the rows of each gradient, or adds them to an accumulator where a "
            "window names half of the table's."
        )
    return Reason(
        f"`gradient_accumulation_steps` {how}",
        "Take a larger batch where memory allows it.",
    )


def _average(facts):
    if not facts.inner.use_ema:
        return None
    name = "use_ema" if facts.inner.averaging is None else "averaging"
    if facts.is_by_row and facts.xla:
        return Reason(
            f"Under XLA `{name}` updates the average of the whole table.",
            "Compile the model with `jit_compile=False`.",
        )
    if facts.average_rides:
        return None
    return Reason(
        f"`{name}` updates the average in a pass of its own here.",
        "It rides along in the step on a CPU, without gradient accumulation, and "
        "for a table on one device without a constraint. Lookahead's slow weights of "
        "a table need `sparse_update='lazy'` or `'dense'` too, and a "
        "`slow_step_size` above 0.",
    )


def _constraint(facts):
    if facts.variable.constraint is None:
        return None
    return Reason(
        "The constraint is a pass over the whole variable behind the step.",
        "Leave it out where `weight_decay` or clipping serves.",
    )


def _xla(facts):
    if not (facts.xla and library.xla_error()):
        return None
    return Reason(
        "XLA is to compile the step, and tf_optim's XLA kernels could not be loaded: "
        "the step raises an error.",
        "Compile the model with `jit_compile=False`.",
    )


def _gpu(facts):
    if not facts.is_on_gpu or library.build_info()["cuda"]:
        return None
    return Reason(
        "The variable lies on a GPU, and this build has no GPU kernels.",
        "Build with TF_NEED_CUDA=1, or place the variable on a CPU.",
    )


_ALL = (
    _dtype,
    _xla,
    _gpu,
    _whole_table,
    _subclass,
    _loss_scale,
    _clip,
    _accumulation,
    _average,
    _constraint,
)
