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


def cached_together(case, variables, slots):
    """Lists of `variables`, indices: one large one, or several small ones.

    Variables of a list and their slots are still in a large cache when the
    second of two passes begins.
    """
    together, held = [], 0
    for i in variables:
        item = item_size(case.dtype_of(i)) + slots * _SLOT
        size = item * int(np.prod(case.shapes[i]))
        if together and held + size > _CACHE:
            yield together
            together, held = [], 0
        together.append(i)
        held += size
    yield together


def sparse_bytes(ids, unique, dim, slots, slot_lines=0, item=4):
    """A sparse step: `ids` gradient rows that name `unique` rows.

    Args:
      slots: slots of the variable's shape.
      slot_lines: cache lines that hold what the rows have in slots of one number
        per row.
      item: bytes of a number of the variable and its gradient.
    """
    gradient = item * dim * ids + 8 * ids
    rows = 2 * dim * (item + _SLOT * slots) * unique
    return gradient + rows + 2 * LINE * slot_lines


def case_bytes(inputs, slots, row_slots=0, slot_item=4, passes=1):
    """Bytes of one step of the case of `inputs`; None where they mean nothing."""
    case = inputs.case
    if case.kind == "fit":
        return None
    total = 0.0
    for i, shape in enumerate(case.shapes):
        item = item_size(case.dtype_of(i))
        if not case.ids_of(i):
            numbers = int(np.prod(shape))
            total += dense_bytes(numbers, slots, item, slot_item, passes)
            total += 2 * _SLOT * row_slots * (shape[0] if shape else 1)
            continue
        batches = inputs.ids(i)
        unique = np.mean([len(np.unique(batch)) for batch in batches])
        per_line = LINE // _SLOT
        lines = np.mean([len(np.unique(batch // per_line)) for batch in batches])
        named = case.ids_of(i), unique, int(np.prod(shape[1:]))
        total += sparse_bytes(*named, slots, row_slots * lines, item)
    return round(total)
