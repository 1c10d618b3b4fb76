"""What an optimizer's state takes: `memory_report`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from tf_optim import conversion, flavour, fused, keras_private, multi, packed

_COLUMNS = ("variable", "shape", "dtype", "bytes", "slots", "bytes of slots")


@dataclasses.dataclass(frozen=True)
class Line:
    """A variable of a `MemoryReport`.

    Attributes:
        name: the variable's path.
        shape: its shape.
        dtype: its dtype.
        bytes: what it takes.
        slots: each slot's name, the dtype that it lies in, and its bytes.
        others: for each `slot_dtype` that its optimizer may have, the bytes that its
            slots would take.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    slots: tuple[tuple[str, str, int], ...]
    others: dict[str, int]

    @property
    def bytes_of_slots(self) -> int:
        """Of all slots together."""
        return sum(size for *_, size in self.slots)


@dataclasses.dataclass(frozen=True)
class MemoryReport:
    """The lines of an optimizer's variables; `print` shows them as a table."""

    lines: tuple[Line, ...]

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    @property
    def bytes_of_variables(self) -> int:
        """Of all variables together."""
        return sum(line.bytes for line in self.lines)

    @property
    def bytes_of_slots(self) -> int:
        """Of all slots together."""
        return sum(line.bytes_of_slots for line in self.lines)

    @property
    def others(self) -> dict[str, int]:
        """For each `slot_dtype` that all can have, the bytes of all slots together."""
        each = [line.others for line in self.lines]
        names = [n for n in (each[0] if each else ()) if all(n in o for o in each)]
        return {name: sum(others[name] for others in each) for name in names}

    def __str__(self) -> str:
        rows = [_COLUMNS]
        for line in self.lines:
            kinds = dict.fromkeys(f"{name} {dtype}" for name, dtype, _ in line.slots)
            shape = " x ".join(map(str, line.shape)) or "scalar"
            size, slots = _readable(line.bytes), _readable(line.bytes_of_slots)
            rows.append((line.name, shape, line.dtype, size, ", ".join(kinds), slots))
        total = _readable(self.bytes_of_variables), _readable(self.bytes_of_slots)
        rows.append(("total", "", "", total[0], "", total[1]))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text = [
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            )
            for row in rows
        ]
        others = ", ".join(f"{k} {_readable(v)}" for k, v in self.others.items())
        text.append(f"Slots by slot_dtype: {others}.")
        return "\n".join(line.rstrip() for line in text)


def _readable(size):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def memory_report(optimizer: Any) -> MemoryReport:
    """What the variables and slots of an optimizer take in memory.

    Averages, accumulated gradients and what `sparse_update="exact"` remembers (8 bytes
    per row) are not in it.

    Args:
        optimizer: one of this package, built (`optimizer.build(variables)`, or after
            its first step), a `MultiOptimizer` of such, or a `LossScaleOptimizer`
            around one.

    Returns:
        A `MemoryReport`: per variable its bytes and those of each slot, the totals,
        and what the slots would take under each `slot_dtype`.

    Raises:
        ValueError: for another optimizer, and for one that is not built.

    Example:

    >>> import tf_optim
    >>> table = tf.Variable(tf.zeros([1000, 64]), name="table")
    >>> opt = tf_optim.Adam(slot_dtype="int8")
    >>> opt.build([table])
    >>> tf_optim.memory_report(opt).bytes_of_slots
    136000
    """
    parts = built_parts(optimizer)
    return MemoryReport(
        tuple(_line(each, variable) for each, built in parts for variable in built)
    )


def built_parts(optimizer):
    """The optimizers of ours that it consists of, each with its variables."""
    optimizer = conversion.innermost(optimizer)
    if isinstance(optimizer, multi.MultiOptimizer):
        # One that takes no variable is never built.
        has_some = [numbers != [] for numbers in optimizer._shares.numbers]
        parts = itertools.compress(optimizer.optimizers, has_some)
        return [pair for each in parts for pair in built_parts(each)]
    if not isinstance(optimizer, fused.Fused):
        raise ValueError(
            "`optimizer` must be one of tf_optim's. Received: "
            f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
        )
    variables = flavour.built_with(optimizer)
    if variables is None:
        raise ValueError(
            "`optimizer` must be built: call `optimizer.build(variables)`. "
            "Received: one without slots."
        )
    return [(optimizer, variables)]


def _line(optimizer, variable):
    tensor, spec = keras_private.raw(variable), optimizer._spec
    slots, others = [], dict.fromkeys(spec.slot_dtypes, 0)
    made = keras_private.slots_of(optimizer, variable)
    for slot, each in zip(spec.slots, made, strict=True):
        if each is None:
            continue
        shape, dtype = packed.storage_of(each)
        size = packed.bytes_of(dtype.name, shape)
        name = "int8" if packed.is_packed(each) and dtype.size == 1 else dtype.name
        slots.append((slot.name, name, size))
        for other in others:
            others[other] += _bytes_in(other, tensor, slot, each, spec)
    return Line(
        name=keras_private.path_of(variable),
        shape=tuple(tensor.shape),
        dtype=tensor.dtype.name,
        bytes=packed.bytes_of(tensor.dtype.name, tensor.shape),
        slots=tuple(slots),
        others=others,
    )


def _bytes_in(name, variable, slot, made, spec):
    if not slot.per_element or variable.dtype.size == 8:
        return packed.bytes_of(made.dtype.name, made.shape)
    name = packed.dtype_of_slots(name, variable, spec)
    return packed.bytes_of(name, variable.shape)
