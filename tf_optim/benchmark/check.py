"""Compares the first steps of a subject with the float64 reference.

The reference is run on a sample: single numbers of dense variables, whole rows
of tables (the most repeated ids, other ids, and rows that no id names). That is
exact as long as an update looks at nothing outside of the number or the row.
"""

import dataclasses

import numpy as np

from tf_optim import reference
from tf_optim.benchmark.work import LEARNING_RATE

STEPS = 2
_NUMBERS = 20_000  # of a dense variable
_ROWS = 400  # of each sort, of a table
_EPSILON = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
# Of the learning rate. The update itself is of the learning rate's size, so an
# error in the formula shows up far above it.
_TOLERANCE = 1e-3
# How many learning rates a step can move a number: RMSprop's first, 1/sqrt(1 - rho).
_FARTHEST = 4

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
        return f"wrong in {100 * share:.2g} % of numbers" if share > _STRAY else ""

    def __str__(self):
        return (
            f"{self.wrong:,} of {self.checked:,} sampled numbers differ from the "
            f"float64 reference, by up to {self.worst:.1e}"
        )


def sample(inputs, i):
    """Positions of variable i to be compared: flat (dense) or rows (tables)."""
    shape = inputs.case.shapes[i]
    rng = np.random.default_rng((1, i))
    if inputs.case.kind == "dense":
        size = int(np.prod(shape))
        wanted = max(16, _NUMBERS // len(inputs.case.shapes))
        inner = rng.integers(0, size, wanted)
        return np.unique(np.concatenate([[0, size - 1], inner]))
    ids, counts = np.unique(inputs.ids(i)[:STEPS], return_counts=True)
    repeated = ids[np.argsort(-counts, kind="stable")[:_ROWS]]
    anywhere = rng.integers(0, shape[0], _ROWS)
    return np.unique(np.concatenate([repeated, rng.choice(ids, _ROWS), anywhere]))


def _gradient_rows(inputs, i, rows, step):
    """The summed gradient of `rows` in a step, and which of them are touched."""
    ids, summed = reference.sum_duplicates(inputs.gradient(i), inputs.ids(i)[step])
    at = np.minimum(np.searchsorted(ids, rows), len(ids) - 1)
    touched = ids[at] == rows
    return np.where(touched[:, None], summed[at], 0.0), touched


def expected(work, inputs, i, positions, lazy, steps=STEPS):
    """Variable i at `positions` after `steps` steps, in float64."""
    initial = inputs.initial(i)
    dense = inputs.case.kind == "dense"
    var = (initial.reshape(-1) if dense else initial)[positions].astype(np.float64)
    slots = {
        name: np.full(len(var) if name in work.row_slots else var.shape, value)
        for name, value in work.slots.items()
    }
    for step in range(steps):
        touched = np.ones(len(positions), bool)
        if dense:
            gradient = inputs.gradient(i).reshape(-1)[positions]
        else:
            gradient, named = _gradient_rows(inputs, i, positions, step)
            touched = named if lazy else touched
        part, slot_parts = reference.step(
            work.optimizer,
            var[touched],
            {name: slot[touched] for name, slot in slots.items()},
            gradient[touched],
            work.hyper,
            LEARNING_RATE,
            step,
        )
        var[touched] = part
        for name, slot in slot_parts.items():
            slots[name][touched] = slot
    return var


def compare(actual, wanted, dtype, steps=STEPS):
    """The `Verdict` on `actual` where the reference says `wanted`."""
    actual = np.asarray(actual, np.float64).reshape(wanted.shape)
    error = np.abs(actual - wanted)
    # On its way a number may have been larger than where it ended.
    largest = np.abs(wanted) + _FARTHEST * steps * LEARNING_RATE
    rounding = 2 * steps * _EPSILON[dtype] * largest

    def outside(tolerance):
        # `not <=` so that a NaN counts.
        return int(np.sum(~(error <= tolerance * LEARNING_RATE + rounding)))

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


def check(subject, work, inputs):
    """Makes the first STEPS steps of a fresh `subject` and judges them.

    Returns:
      A `Verdict`, or None for an optimizer that the reference does not know.
    """
    known = work.optimizer in reference.RULES
    if known and hasattr(subject, "check"):
        return subject.check()
    for _ in range(STEPS):
        subject.step()
    if not known:
        return None
    verdicts = []
    for i in range(len(inputs.case.shapes)):
        positions = sample(inputs, i)
        wanted = expected(work, inputs, i, positions, subject.lazy)
        actual = subject.read(i, positions)
        verdicts.append(compare(actual, wanted, inputs.case.dtype))
    return total(verdicts)
