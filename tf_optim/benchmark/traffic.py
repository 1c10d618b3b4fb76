"""The least that an update has to move between memory and the CPU, in bytes.

Every number of a variable and of its slots is read and written, every number of
a gradient is read. In-place updates pay nothing else: a line that was read is
owned already when it is written.
"""

import numpy as np

_LINE = 64  # bytes of a cache line


def item_size(dtype):
    return {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}[dtype]


def dense_bytes(numbers, slots, item=4, slot_item=4):
    """A dense step on `numbers` parameters with `slots` slots.

    float32: 12 bytes per parameter without a slot, 20, 28, 36 with 1, 2, 3.
    """
    return numbers * (3 * item + 2 * slots * slot_item)


def sparse_bytes(ids, unique, dim, slots, row_slots=0):
    """A sparse float32 step: `ids` gradient rows that name `unique` rows.

    Args:
      slots: slots of the variable's shape.
      row_slots: slots of one number per row; each costs a cache line.
    """
    gradient = 4 * dim * ids + 8 * ids
    rows = 8 * dim * (1 + slots) * unique
    return gradient + rows + 2 * _LINE * row_slots * unique


def case_bytes(inputs, slots, row_slots=0, slot_item=4):
    """Bytes of one step of the case of `inputs`; None where they mean nothing."""
    case = inputs.case
    if case.kind == "dense":
        return dense_bytes(case.numbers, slots, item_size(case.dtype), slot_item)
    if case.kind != "sparse":
        return None
    total = 0.0
    for i, (_, dim) in enumerate(case.shapes):
        batches = inputs.ids(i)
        unique = np.mean([len(np.unique(batch)) for batch in batches])
        total += sparse_bytes(case.ids, unique, dim, slots, row_slots)
    return round(total)
