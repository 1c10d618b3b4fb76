"""How many bytes a variable's slots have, and how many a step of it moves."""

import numpy as np
import tensorflow as tf

from tf_optim import conversion, exact, flavour, fused, keras_private, packed, prepared
from tf_optim.benchmark import traffic
from tf_optim.keras_private import raw


def _numbers(variable):
    return int(np.prod(variable.shape, dtype=np.int64))


def size(variable, dtype):
    return _numbers(variable) * dtype.size


def slot_dtype(variable):
    return tf.float32 if fused.is_half(variable.dtype) else variable.dtype


def _slot_item(facts):
    """Bytes per number of a slot that has one per element."""
    variable, inner = facts.variable, facts.inner
    if variable.dtype.size == 8:
        return 8
    dtype = packed.dtype_of_slots(inner.slot_dtype, variable, inner._spec)
    all_of_it = packed.bytes_of(dtype, variable.shape)
    return all_of_it / max(_numbers(variable), 1)


def slots_of(optimizer, variable):
    """Of each slot, there or to come: its numbers, and whether it has one for each.

    One for each element, that is; others have fewer.
    """
    for slot in optimizer._spec.slots:
        if optimizer._has_slot(slot):
            yield slot.shape_for(variable).num_elements(), slot.per_element


def of_slots(facts, slots):
    """Bytes of those that `slots_of` gives."""
    plain = slot_dtype(facts.variable).size
    return round(
        sum(
            each * (_slot_item(facts) if per_element else plain)
            for each, per_element in slots
        )
    )


def moved(facts, slots):
    """Bytes that an update moves: of a lazy one, for a row that occurs once."""
    variable, numbers = facts.variable, _numbers(facts.variable)
    fewer = sum(each for each, per_element in slots if not per_element)
    full = sum(per_element for _, per_element in slots)
    item, slot_item = variable.dtype.size, _slot_item(facts)
    average = 2 * item * facts.average_rides
    if not facts.is_by_row:
        is_read_twice = facts.inner._spec.needs_whole_table or facts.inner.cautious
        passes = 2 if is_read_twice else 1
        moved = traffic.dense_bytes(numbers, full, item, slot_item, passes)
        of_rows = 2 * slot_dtype(variable).size * fewer
        return round(moved + of_rows + average * numbers)
    width = numbers // max(variable.shape[0], 1)
    # A gradient's row and its id; the row, its slots and its average, in and out.
    in_and_out = 2 * item + 2 * slot_item * full + average
    of_row = (item + in_and_out) * width + 8
    if facts.mode in exact.MODES:  # brought up to date before
        of_row += in_and_out * width + prepared.BYTES_PER_ROW
    return round(of_row + 2 * traffic.LINE * bool(fewer))


def of_stocks_slots(optimizer, variable):
    """Bytes of the slots that a stock optimizer has; 0 before it is built."""
    if flavour.built_with(optimizer) is None:
        return 0
    index = keras_private.index_of(optimizer, variable)
    lists = [
        value
        for name, value in vars(optimizer).items()
        if isinstance(value, list) and name not in conversion.NOT_STATE
    ]
    slots = [each[index] for each in lists if len(each) > index]
    slots = [raw(slot) for slot in slots if hasattr(slot, "assign")]
    return sum(size(slot, slot.dtype) for slot in slots)
