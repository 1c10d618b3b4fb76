"""Compares the first steps of a subject with the float64 reference.

What is compared is a sample: single numbers of dense variables, whole rows of
tables (the most repeated ids, other ids, and rows that no id names). What the
reference is run on is all that these depend on: no more than the sample for most
optimizers, whole rows or the whole variable for those that take norms of them.
"""

import dataclasses

import numpy as np

from tf_optim import reference
from tf_optim.benchmark.work import LEARNING_RATE

STEPS = 2
_NUMBERS = 20_000  # of a dense variable
_ROWS = 400  # of each sort, of a table
_EPSILON = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
# Of what a number moves. An error in a formula shows up far above it, even in what
# moves numbers least: AdamW's decay, in the largest of them.
_TOLERANCE = 1e-3

# What a peer is granted, and in how many numbers it may take more: several add
# epsilon in another place, which shows where a gradient is near zero.
_TOLERANCE_OF_PEERS = 5e-2
_STRAY = 0.01


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a check.

    Attributes:
      checked: how many numbers were compared.
      wrong: how many of them were outside of the tolerance.
      far: how many were outside of what a peer is granted.
      worst: the largest difference from the reference.
    """

    checked: int
    wrong: int
    far: int
    worst: float

    @property
    def note(self):
        """What a peer's row says."""
        share = self.far / max(1, self.checked)
        percent = f"{100 * share:.{0 if share > 0.1 else 1}f}"
        return f"wrong in {percent} % of numbers" if share > _STRAY else ""

    def __str__(self):
        return (
            f"{self.wrong:,} of {self.checked:,} sampled numbers differ from the "
            f"float64 reference, by up to {self.worst:.1e}"
        )


def sample(inputs, i):
    """Positions of variable i to be compared: flat (dense) or rows (tables)."""
    shape = inputs.case.shapes[i]
    rng = np.random.default_rng((1, i))
    if not inputs.case.ids_of(i):
        size = int(np.prod(shape))
        wanted = max(16, _NUMBERS // len(inputs.case.shapes))
        inner = rng.integers(0, size, wanted)
        return np.unique(np.concatenate([[0, size - 1], inner]))
    ids, counts = np.unique(inputs.ids(i)[:STEPS], return_counts=True)
    repeated = ids[np.argsort(-counts, kind="stable")[:_ROWS]]
    anywhere = rng.integers(0, shape[0], _ROWS)
    return np.unique(np.concatenate([repeated, rng.choice(ids, _ROWS), anywhere]))


def reach(work):
    """What the step of a number depends on: "element", its "row" or "variable".

    The reference is asked: who moves differently when one gradient is another?
    """
    var, gradient = np.ones((2, 2)), np.ones((2, 2))
    before, _ = advance(work, var, first_slots(work, var), gradient, 0)
    gradient[0, 0] = 0
    after, _ = advance(work, var, first_slots(work, var), gradient, 0)
    differs = before != after
    if differs[1].any():
        return "variable"
    return "row" if differs[0, 1] else "element"


def idles(work):
    """Whether a step changes rows of which it has no gradient, so that a step on
    the rows named ("lazy") is another than one on the whole table ("dense")."""
    var = np.full((2, 2), 0.5)
    slots = first_slots(work, var)
    var, slots = advance(work, var, slots, np.full((2, 2), 0.25), 0)
    later, after = advance(work, var, slots, np.zeros((2, 2)), 1)
    same = all(np.allclose(slots[k], after[k], rtol=1e-9, atol=0) for k in slots)
    return not (same and np.allclose(var, later, rtol=1e-9, atol=0))


def first_slots(work, var):
    """The slots of `var` before any step."""
    return {
        name: np.array(var)
        if value is None  # it starts at the variable
        else np.full(var.shape[:1] if name in work.row_slots else var.shape, value)
        for name, value in work.slots.items()
    }


def advance(work, var, slots, gradient, step):
    """The reference's `(var, slots)` after one more step of the work."""
    return reference.step(
        work.optimizer,
        var,
        slots,
        gradient,
        work.hyper,
        LEARNING_RATE,
        step,
        weight_decay=work.weight_decay,
    )


def stand_in(values, rows):
    """A row [1, dim] for all of `values` but `rows`: what their norm sees of them.

    As long as no gradient names any of them, a step that looks at nothing but
    the norms of variable and step does not see the difference.
    """

    def squares(array):
        flat = array.reshape(-1)
        return np.einsum("i,i", flat, flat, dtype=np.float64)

    row = np.zeros((1, values.shape[1]))
    row[0, 0] = np.sqrt(max(0.0, squares(values) - squares(values[rows])))
    return row


def _gradient_rows(inputs, i, rows, step):
    """The summed gradient of `rows` in a step, and which of them are touched."""
    ids, summed = reference.sum_duplicates(inputs.gradient(i), inputs.ids(i)[step])
    at = np.minimum(np.searchsorted(ids, rows), len(ids) - 1)
    touched = ids[at] == rows
    return np.where(touched[:, None], summed[at], 0.0), touched


def _dense(work, inputs, i, positions, steps):
    """`expected` of a dense variable."""
    initial, gradient = inputs.initial(i), inputs.gradient(i)
    depends_on = reach(work)
    width = 1 if depends_on == "element" else int(np.prod(initial.shape[1:]))
    rows = np.unique(positions // width)
    if depends_on == "variable":
        rows = slice(None)
    before = var = initial.reshape(-1, width)[rows].astype(np.float64)
    gradient = gradient.reshape(-1, width)[rows].astype(np.float64)
    slots = first_slots(work, var)
    for step in range(steps):
        var, slots = advance(work, var, slots, gradient, step)
    at, inside = positions // width, positions % width
    if depends_on != "variable":
        at = np.searchsorted(rows, at)
    return before[at, inside], var[at, inside]


def _table(work, inputs, i, positions, lazy, steps):
    """`expected` of a table."""
    initial = inputs.initial(i)
    whole = reach(work) == "variable"
    rows = positions
    if whole:
        rows = np.union1d(positions, inputs.ids(i)[:steps])
    at = np.searchsorted(rows, positions)
    var = initial[rows].astype(np.float64)
    if whole and not lazy:
        var = np.concatenate([var, stand_in(initial, rows)])
        rows = np.append(rows, -1)  # no id names it
    before, slots = var[at], first_slots(work, var)
    for step in range(steps):
        gradient, touched = _gradient_rows(inputs, i, rows, step)
        if not lazy:
            touched[:] = True
        part = {name: slot[touched] for name, slot in slots.items()}
        var[touched], part = advance(work, var[touched], part, gradient[touched], step)
        for name, slot in part.items():
            slots[name][touched] = slot
    return before, var[at]


def expected(work, inputs, i, positions, lazy, steps=STEPS):
    """Variable i at `positions` before and after `steps` steps, in float64."""
    if not inputs.case.ids_of(i):
        return _dense(work, inputs, i, positions, steps)
    return _table(work, inputs, i, positions, lazy, steps)


def compare(actual, before, wanted, dtype, steps=STEPS):
    """The `Verdict` on `actual`; the reference goes from `before` to `wanted`."""
    actual = np.asarray(actual, np.float64).reshape(wanted.shape)
    error = np.abs(actual - wanted)
    # Some rules move all numbers by the learning rate, some by much less.
    moved = min(LEARNING_RATE, np.sqrt(np.mean((wanted - before) ** 2)))
    # On its way a number may have been larger than at both ends.
    largest = np.maximum(np.abs(before), np.abs(wanted)) + moved
    rounding = 2 * steps * _EPSILON[dtype] * largest

    def outside(tolerance):
        # `not <=` so that a NaN counts.
        return int(np.sum(~(error <= tolerance * moved + rounding)))

    return Verdict(
        checked=error.size,
        wrong=outside(_TOLERANCE),
        far=outside(_TOLERANCE_OF_PEERS),
        worst=float(np.max(error, initial=0.0)),  # NaN if any is
    )


def total(verdicts):
    """One verdict on several variables."""
    return Verdict(
        checked=sum(v.checked for v in verdicts),
        wrong=sum(v.wrong for v in verdicts),
        far=sum(v.far for v in verdicts),
        worst=float(np.max([v.worst for v in verdicts])),  # NaN if any is
    )


def _wanted(work, inputs, lazy):
    """For each variable: where to look, and `expected` there; worked out once."""
    key = work.label, lazy
    if key not in inputs.wanted:
        every = range(len(inputs.case.shapes))
        samples = [sample(inputs, i) for i in every]
        inputs.wanted[key] = [
            (at, *expected(work, inputs, i, at, lazy)) for i, at in enumerate(samples)
        ]
    return inputs.wanted[key]


def check(subject, work, inputs):
    """Makes the first STEPS steps of a fresh `subject`; the `Verdict` on them."""
    if hasattr(subject, "check"):
        return subject.check()
    for _ in range(STEPS):
        subject.make_step()
    return total(
        [
            compare(subject.read(i, at), before, wanted, inputs.case.dtype_of(i))
            for i, (at, before, wanted) in enumerate(
                _wanted(work, inputs, subject.lazy)
            )
        ]
    )
