"""`explain`: what a step of an optimizer does to each variable, and why not faster."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_optim import (
    conversion,
    exact,
    extension,
    flavour,
    fused,
    keras_private,
    library,
    multi,
    op_calls,
    prepared,
    state_bytes,
)
from tf_optim import reasons as why
from tf_optim.keras_private import raw


@dataclasses.dataclass(frozen=True)
class Row:
    """What a step does to one variable.

    Attributes:
        variable: its name.
        shape: its shape.
        dtype: the name of its dtype.
        device: where it lies, as in "CPU:0".
        kernel: "dense", "sparse lazy" or "sparse dense"; "Keras" where the step is
            not one of tf_optim.
        isa: the instruction set of the kernel, "cuda" on a GPU, "" for "Keras".
        xla: whether XLA compiles the step; None where that is not known, as of an
            optimizer alone.
        op: which of the step's op calls updates it, counted from 1; None for "Keras".
        bytes_per_step: the least that the update has to move between memory and
            the processor; None where the batch decides it, or for "Keras".
        bytes_per_row: for "sparse lazy" the same for each row that a batch names.
        slot_bytes: the memory of its slots.
        other_bytes: that of its moving average and its accumulated gradient.
        reasons: why it is not on the fast path, each with a `why` and a `remedy`.
    """

    variable: str
    shape: tuple[int | None, ...]
    dtype: str
    device: str
    kernel: str
    isa: str
    xla: bool | None
    op: int | None
    bytes_per_step: int | None
    bytes_per_row: int | None
    slot_bytes: int
    other_bytes: int
    reasons: tuple[why.Reason, ...]

    @property
    def is_fast(self) -> bool:
        """Whether one op does all there is to do, at the cost of what changes."""
        return not self.reasons


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """A table with a row per variable. It prints as one.

    Attributes:
        optimizer: the class of the optimizer, as in "tf_optim.Adam".
        rows: a list of `Row`.
        ops_per_step: how many op calls update the variables; None where the step is
            Keras'. Ops that check, clip by norm or accumulate are not counted.
    """

    optimizer: str
    rows: list[Row]
    ops_per_step: int | None

    @property
    def bytes_per_step(self) -> int:
        """Of all rows of which it is known."""
        return sum(row.bytes_per_step or 0 for row in self.rows)

    @property
    def slot_bytes(self) -> int:
        """The memory of all slots."""
        return sum(row.slot_bytes for row in self.rows)

    @property
    def other_bytes(self) -> int:
        """The memory of moving averages, accumulated gradients and step numbers.

        Step numbers are what "exact" and "eventual" know of each row.
        """
        return sum(row.other_bytes for row in self.rows)

    @property
    def is_fast(self) -> bool:
        """Whether every variable is on the fast path."""
        return all(row.is_fast for row in self.rows)

    def __repr__(self) -> str:
        notes = list(dict.fromkeys(r for row in self.rows for r in row.reasons))
        head = "variable,shape,dtype,device,kernel,isa,xla,op,bytes per step,slots,note"
        lines = [head.split(","), *(_cells(row, notes) for row in self.rows)]
        total = ["total"] + [""] * (len(lines[0]) - 1)
        total[7:10] = [
            "-" if self.ops_per_step is None else f"{self.ops_per_step} in all",
            "-" if self.ops_per_step is None else _amount(self.bytes_per_step),
            _amount(self.slot_bytes),
        ]
        lines.append(total)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [f"{self.optimizer}: {len(self.rows)} variables"]
        for line in lines:
            pairs = zip(line, widths, strict=True)
            text.append("  ".join(cell.ljust(width) for cell, width in pairs).rstrip())
        if self.other_bytes:
            kinds = "moving averages, accumulated gradients, step numbers of rows"
            text.append(f"{kinds}: {_amount(self.other_bytes)}")
        text += [f"{number}: {note}" for number, note in enumerate(notes, 1)]
        return "\n".join(text)


def _cells(row, notes):
    traffic_of_row = "-"
    if row.bytes_per_step is not None:
        traffic_of_row = _amount(row.bytes_per_step)
    elif row.bytes_per_row is not None:
        traffic_of_row = f"{_amount(row.bytes_per_row)} a row"
    return [
        row.variable,
        " x ".join(map(str, row.shape)) or "scalar",
        row.dtype,
        row.device,
        row.kernel,
        row.isa or "-",
        {None: "-", True: "yes", False: "no"}[row.xla],
        "-" if row.op is None else str(row.op),
        traffic_of_row,
        _amount(row.slot_bytes),
        ",".join(str(notes.index(reason) + 1) for reason in row.reasons),
    ]


def _amount(size):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.4g} {unit}"
        size /= 1024
    raise AssertionError


def explain(
    optimizer_or_model: tf.keras.Model | tf.keras.optimizers.Optimizer,
    sparse: Iterable[Any] = (),
) -> Explanation:
    """What a step does to each variable, how much it moves, and why not faster.

    The table says for each variable which kernel updates it (dense, or one of the
    modes of `sparse_update`), with which instruction set, on which device and
    whether XLA compiles it; which op call that is, how many bytes it has to move, how
    much memory the slots take; and, for what is not on the fast path, the reason
    and what to do about it.

    Nothing is run and nothing is changed. Which gradients are sparse is known from
    the model's `Embedding` layers; of an optimizer alone, from Keras' name for
    their variable, "embeddings".

    Args:
        optimizer_or_model: a compiled model; or an optimizer that is built, of
            tf_optim or of Keras, or a `LossScaleOptimizer` or `MultiOptimizer` of such.
        sparse: variables whose gradients are `tf.IndexedSlices` though they are no
            layer's, as those that `tf.nn.embedding_lookup` reads. Default: none.

    Returns:
        An `Explanation`: an object with `rows`, `ops_per_step`, `bytes_per_step` and
        `slot_bytes` that prints as a table.

    Raises:
        ValueError: for a model that is not compiled or has no variables yet, an
            optimizer that is not built, or another object.

    Example:

    >>> import tf_optim
    >>> opt = tf_optim.Adam()
    >>> opt.build([tf.Variable(tf.zeros([10, 4]), name="kernel")])
    >>> row = tf_optim.explain(opt).rows[0]
    >>> row.kernel, row.bytes_per_step, row.slot_bytes, row.is_fast
    ('dense', 1120, 320, True)
    """
    model, optimizer, variables = _taken_apart(optimizer_or_model)
    inner = conversion.innermost(optimizer)
    several = isinstance(inner, multi.MultiOptimizer)
    if several and not inner.built:
        inner._shares.share_out(variables)
    is_sparse, is_regularized = _tables(model, variables, sparse)
    calls: dict[tuple, int] = {}
    rows = []
    for variable in variables:
        own = inner.optimizer_of(variable) if several else inner
        facts = why.Facts(
            optimizer=own if optimizer is inner else optimizer,
            inner=own,
            variable=raw(variable),
            given=variable,
            is_sparse=id(raw(variable)) in is_sparse,
            regularizes_table=id(raw(variable)) in is_regularized,
            xla=_compiled_by_xla(model),
        )
        rows.append(_row(facts, _name(variable), calls))
    each = inner.optimizers if several else [inner]
    ops = len(calls) if all(isinstance(one, fused.Fused) for one in each) else None
    return Explanation(_class_name(inner), rows, ops)


# --- what was given


def _taken_apart(thing):
    """Returns the model or None, the optimizer, and the variables that it updates."""
    expected = (
        "`optimizer_or_model` must be an optimizer that is built or a compiled model "
        "with variables. Received: "
    )
    if isinstance(thing, tf.keras.Model):
        if getattr(thing, "optimizer", None) is None:
            raise ValueError(
                f"{expected}'{thing.name}', which has no optimizer. Call `compile`."
            )
        if not thing.built:
            raise ValueError(
                f"{expected}'{thing.name}', which has no variables. Call it on a "
                "batch, or `build` it."
            )
        return thing, thing.optimizer, list(thing.trainable_variables)
    inner = conversion.innermost(thing)
    if not (hasattr(inner, "apply_gradients") and hasattr(inner, "iterations")):
        raise ValueError(f"{expected}{thing!r}.")
    ours = isinstance(inner, fused.Fused | multi.MultiOptimizer)
    if not (flavour.is_keras_3() or ours):
        raise ValueError(
            f"{expected}{_class_name(inner)}, which keeps no list of the variables "
            "that it updates. Pass the model."
        )
    variables = flavour.built_with(inner)
    if variables is None:
        raise ValueError(
            f"{expected}{_class_name(inner)}, which is not built. Call "
            "`build(trainable_variables)`, or pass the model."
        )
    return None, thing, variables


def _tables(model, variables, sparse):
    """The ids of the variables with sparse gradients, and of regularized tables."""
    found = {id(raw(variable)) for variable in sparse}
    if model is None:
        for variable in variables:
            history = prepared.history_of(raw(variable))
            if history is not None or _is_named_like_a_table(variable):
                found.add(id(raw(variable)))
        return found, set()
    regularized = set()
    for layer in keras_private.layers_of(model):
        if isinstance(layer, tf.keras.layers.Embedding):
            is_regularized = getattr(layer, "embeddings_regularizer", None) is not None
            ids = {id(raw(variable)) for variable in layer.trainable_variables}
            (regularized if is_regularized else found).update(ids)
    return found, regularized


def _name(variable):
    name = getattr(variable, "path", None) or variable.name or "variable"
    return name.split(":")[0]


def _is_named_like_a_table(variable):
    return _name(variable).rpartition("/")[2] == "embeddings"


def _class_name(optimizer):
    cls = conversion.class_of(optimizer)
    room = cls.__module__.partition(".")[0]
    if room in ("keras", "tf_keras"):
        room += ".optimizers"
    return f"{room}.{cls.__name__}"


def _compiled_by_xla(model):
    if model is None:
        return None
    return bool(getattr(model, "jit_compile", None)) and not model.run_eagerly


# --- a variable


def _row(facts, name, calls):
    """The row of a variable; `calls` numbers the op calls."""
    variable, inner = facts.variable, facts.inner
    device = tf.DeviceSpec.from_string(variable.device or "")
    place = f"{device.device_type or 'CPU'}:{device.device_index or 0}"
    common = {
        "variable": name,
        "shape": tuple(variable.shape),
        "dtype": variable.dtype.name,
        "device": place,
        "xla": facts.xla,
        "reasons": tuple(why.of(facts)),
    }
    if not facts.is_ours:
        return Row(
            **common,
            kernel="Keras",
            isa="",
            op=None,
            bytes_per_step=None,
            bytes_per_row=None,
            slot_bytes=state_bytes.of_stocks_slots(inner, facts.variable),
            other_bytes=0,
        )
    factor, own = inner._rate_factor_of(facts.given), inner._hyper_of(facts.given)
    call = [id(inner), variable.device, common["dtype"]]
    call += [facts.is_sparse, facts.average_rides, *own]
    if not op_calls.takes_rates(place, facts.xla):
        call.append(factor)
    if extension.overridden(inner, extension.UPDATE):
        call.append(len(calls))  # one for each variable
    slots = list(state_bytes.slots_of(inner, variable))
    moved = state_bytes.moved(facts, slots)
    others = bool(inner.use_ema) * state_bytes.size(variable, variable.dtype)
    sums = state_bytes.size(variable, state_bytes.slot_dtype(variable))
    others += facts.accumulates * sums
    if facts.is_by_row and facts.mode in exact.MODES:
        others += prepared.BYTES_PER_ROW * variable.shape[0]
    memory = {
        "slot_bytes": state_bytes.of_slots(facts, slots),
        "other_bytes": others,
    }
    if not factor:  # of `learning_rate_multipliers`: no step takes it
        return Row(
            **common,
            **memory,
            kernel="frozen",
            isa="",
            op=None,
            bytes_per_step=0,
            bytes_per_row=None,
        )
    return Row(
        **common,
        **memory,
        kernel=f"sparse {facts.mode}" if facts.is_sparse else "dense",
        isa="cuda" if facts.is_on_gpu else library.build_info()["isa"],
        op=calls.setdefault(tuple(call), len(calls) + 1),
        bytes_per_step=None if facts.is_by_row else moved,
        bytes_per_row=moved if facts.is_by_row else None,
    )
