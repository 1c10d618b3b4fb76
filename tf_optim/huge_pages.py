"""Huge pages under large tables: `use_huge_pages`.

Rows that a batch names lie all over a table. With pages of 4 KiB the processor looks up
the address of nearly each of them in memory; with pages of 2 MiB it knows most already.
"""

from __future__ import annotations

import math
import platform
from typing import Any

import tensorflow as tf

from tf_optim import keras_private, library, memory, packed, pages


def use_huge_pages(of: Any, min_bytes: int = pages.LEAST_BYTES) -> int:
    """Moves large variables into huge pages of memory, once. No value changes.

    A sparse step of a table of many rows then takes less time; dense steps hardly
    change. Call it when variables and slots have their values: after `build` and after
    weights are loaded, since what replaces a value (`assign`, `load_weights`, restoring
    a checkpoint) puts it into new memory. It takes 0.6 to 6 milliseconds per 2 MiB.

    It asks Linux (6.1 and newer), by `madvise`, for the variables that lie on CPUs.
    What Linux has no free huge page for stays where it is.

    Args:
        of: a model (its variables and its optimizer's), an optimizer of tf_optim (its
            variables and those that it was built with), or a list of variables.
        min_bytes: smaller variables are left alone. Default: 32 MiB.

    Returns:
        How many bytes lie in huge pages now, of those that were looked at.

    Raises:
        TypeError: if `of` is something else.
        ValueError: for another optimizer, and for one that is not built, which has no
            slots yet.
        RuntimeError: inside of a `tf.function`; where the system has no such call.

    Example:

    >>> import tf_optim
    >>> table = tf.Variable(tf.zeros([1_000_000, 16]), name="table")
    >>> opt = tf_optim.Adam()
    >>> opt.build([table])
    >>> moved = tf_optim.use_huge_pages(opt)  # the table and two slots
    """
    if not tf.executing_eagerly():
        raise RuntimeError(
            "`use_huge_pages` must be called outside of a `tf.function`. Received: a "
            "call inside of one."
        )
    variables = {id(v): v for each in _variables_of(of) for v in _parts_here(each)}
    return sum(_move(variable, min_bytes) for variable in variables.values())


def _variables_of(of):
    """As they are given, of Keras or of TensorFlow."""
    if isinstance(of, tf.keras.Model):
        optimizer = getattr(of, "optimizer", None)
        return [*of.variables, *(_variables_of(optimizer) if optimizer else ())]
    if isinstance(of, tf.keras.optimizers.Optimizer):
        # Not `variables`: the steps of idle rows can wait.
        parts = [(each._variables, built) for each, built in memory.built_parts(of)]
        return [v for lists in parts for each in lists for v in each]
    if isinstance(of, list | tuple | set):
        wrong = [each for each in of if not _is_variable(each)]
        if not wrong:
            return of
        of = wrong[0]
    raise TypeError(
        "`of` must be a model, an optimizer or a list of variables. Received: "
        f"{type(of).__name__}"
    )


def _is_variable(each):
    is_keras = isinstance(getattr(each, "value", None), tf.Variable)
    return isinstance(each, tf.Variable) or is_keras or keras_private.is_split(each)


def _parts_here(variable):
    """The resource variables that it consists of, on CPUs."""
    if keras_private.is_split(variable):
        parts = variable.variables
    else:
        raw = keras_private.raw(variable)
        is_mirrored = isinstance(raw, tf.distribute.DistributedValues)
        parts = raw.values if is_mirrored else [raw]
    for part in parts:
        if pages.is_on_cpu(part.device):
            yield part


def _move(variable, min_bytes):
    """Returns how many bytes lie in huge pages."""
    shape, dtype = packed.storage_of(variable)
    if math.prod(shape) * dtype.size < min_bytes:
        return 0
    moved = int(library.ops().tf_optim_use_huge_pages(variable=variable.handle))
    if moved < 0:
        raise RuntimeError(
            "`use_huge_pages` must have Linux 6.1 or newer, with transparent huge "
            f"pages. Received: {platform.platform()}. Start the program with the "
            "environment variable GLIBC_TUNABLES=glibc.malloc.hugetlb=1 instead."
        )
    return moved
