"""The least that an update has to move between memory and the CPU, in bytes.

Every number of a variable and of its slots is read and written, every number of
a gradient is read. In-place updates pay nothing else: a line that was read is
owned already when it is written.

A rule whose steps depend on norms of the whole variable (Lamb) cannot write a
number before it has read all of them. Its first pass reads variable, gradient and
slots and writes the slots; the second reads variable and slots again and writes
the variable. (To keep the step instead of working it out anew from the slots, or
to read the gradient again, costs as much or more.) What fits into a cache is
still there for the second pass; only a larger dense variable is counted twice.
Of tables, the rows that a step names are few enough.

A slot of one number per row costs a cache line where rows are picked from a
table, and next to nothing where the whole variable is passed over.
"""

import numpy as np

LINE = 64  # bytes of a cache line
_SLOT = 4  # bytes of a number of a row's slot
_CACHE = 32 << 20  # bytes of a large cache: what may be there a moment later


def item_size(dtype):
    return {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}[dtype]


def dense_bytes(numbers, slots, item=4, slot_item=4, passes=1):
    """A dense step on `numbers` parameters with `slots` slots of as many numbers.

    float32: 12 bytes per parameter without a slot, 20, 28, 36 with 1, 2, 3; Lamb,
    which has 2 and takes two passes, 40.
    """
    once = numbers * (3 * item + 2 * slots * slot_item)
    again = numbers * (item + slots * slot_item)
    return once + (again if passes > 1 and again > _CACHE else 0)


def cached_together(case, slots):
    """Ranges of a case's numbers: one large variable, or several small ones.

    Variables of a range and their slots are still in a large cache when the
    second of two passes begins.
    """
    size = item_size(case.dtype) + slots * _SLOT
    begin = end = 0
    for shape in case.shapes:
        numbers = int(np.prod(shape))
        if end > begin and (end - begin + numbers) * size > _CACHE:
            yield begin, end
            begin = end
        end += numbers
    yield begin, end


def sparse_bytes(ids, unique, dim, slots, slot_lines=0):
    """A sparse float32 step: `ids` gradient rows that name `unique` rows.

    Args:
      slots: slots of the variable's shape.
      slot_lines: cache lines that hold what the rows have in slots of one number
        per row.
    """
    gradient = 4 * dim * ids + 8 * ids
    rows = 8 * dim * (1 + slots) * unique
    return gradient + rows + 2 * LINE * slot_lines


def case_bytes(inputs, slots, row_slots=0, slot_item=4, passes=1):
    """Bytes of one step of the case of `inputs`; None where they mean nothing."""
    case = inputs.case
    if case.kind == "fit":
        return None
    total = 0.0
    for i, shape in enumerate(case.shapes):
        if case.kind == "dense":
            numbers, item = int(np.prod(shape)), item_size(case.dtype)
            total += dense_bytes(numbers, slots, item, slot_item, passes)
            total += 2 * _SLOT * row_slots * shape[0]
            continue
        batches = inputs.ids(i)
        unique = np.mean([len(np.unique(batch)) for batch in batches])
        per_line = LINE // _SLOT
        lines = np.mean([len(np.unique(batch // per_line)) for batch in batches])
        total += sparse_bytes(case.ids, unique, shape[1], slots, row_slots * lines)
    return round(total)
