"""Arrays of the four dtypes, and how close is close enough."""

import ml_dtypes
import numpy as np

from tf_optim import reference

# The bound of one step, in units in the last place of the computation type.
# A rule is about ten roundings, each at most half a unit of its operands; what
# cancellation makes of them is measured, not guessed (see `allowed_error`).
ULPS = 4


def numpy_dtype(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def slot_dtype(name):
    """16-bit variables compute in float32 and keep float32 slots."""
    return np.dtype("float64" if name == "float64" else "float32")


def unit(dtype):
    return float(ml_dtypes.finfo(dtype).eps)


def draw(rng, case, shape, dtype):
    """A state as in the middle of training: `(var, slots, grad)`."""
    shape = (shape,) if isinstance(shape, int) else shape
    var = rng.normal(size=shape).astype(numpy_dtype(dtype))
    grad = rng.normal(size=shape).astype(numpy_dtype(dtype))
    slots = {}
    mean = rng.normal(size=shape) * 0.3
    for slot in case.slots:
        if slot.share is not None:
            value = mean * slot.share
        else:  # averages of squares and norms are never negative
            value = mean**2 + rng.uniform(0.1, 1.0, size=shape)
        if slot.is_sign:
            value = np.sign(np.round(value * 5))
        if slot.per_row and len(shape) > 1:
            value = rng.uniform(0.1, 1.0, size=slot.shape(shape))
        slots[slot.name] = value.astype(slot_dtype(dtype))
    return var, slots, grad


def allowed_error(case, var, slots, grad, *step_arguments, grad_error=0.0, **common):
    """The error that correct arithmetic in the computation type may make.

    A good float32 result is the exact result of inputs that are off by a few
    units in the last place. So the bound is what such a change of each input
    does to the exact result, plus a few units of what is added and stored. It
    grows where the formula cancels, and only there.

    Args:
      grad_error: absolute error of `grad` itself (it may be a sum).

    Returns:
      `(exact, bound)`, both `(var, slots)`.
    """
    eps = unit(slot_dtype(np.dtype(var.dtype).name)) * ULPS
    inputs = {"var": var, "grad": grad, **{f"slot {k}": v for k, v in slots.items()}}
    inputs = {key: np.asarray(value, np.float64) for key, value in inputs.items()}

    def run(values):
        new_var, new_slots = reference.step(
            case.name,
            values["var"],
            {key: values[f"slot {key}"] for key in slots},
            values["grad"],
            case.hyper,
            *step_arguments,
            **common,
        )
        return {"var": new_var, **{f"slot {k}": v for k, v in new_slots.items()}}

    with np.errstate(all="ignore"):  # a bound may be NaN where the result is
        exact, bound = _bounds(run, inputs, eps, grad_error, var.dtype)
        if case.optimizer.cancelling:
            lost = case.optimizer.cancelling(
                case.hyper, step_arguments[0], inputs, exact
            )
            for key, size in lost.items():
                bound[key] = bound[key] + eps * size
        return exact, bound


def _bounds(run, inputs, eps, grad_error, storage):
    exact = run(inputs)
    bound = {}
    for key, value in exact.items():
        bound[key] = eps * (np.abs(inputs[key]) + np.abs(value))
    for moved, value in inputs.items():
        change = eps * np.abs(value) + (grad_error if moved == "grad" else 0.0)
        above = run({**inputs, moved: value + change})
        below = run({**inputs, moved: value - change})
        for key, value in exact.items():
            bound[key] += np.maximum(abs(above[key] - value), abs(below[key] - value))
    # Storing 16 bits rounds once more, to nearest: half a unit of the result.
    if unit(storage) > eps:
        spacing = np.spacing(np.abs(exact["var"]).astype(storage))
        bound["var"] = bound["var"] + 0.5 * spacing.astype(np.float64)
    return exact, bound


def assert_step(case, before, after, grad, *step_arguments, **common):
    """Asserts that `after` is one step of the rule from `before`.

    Args:
      before: `(var, slots)`, in the types that they are stored in.
      after: the same after the step.
    """
    var, slots = before
    new_var, new_slots = after
    exact, bound = allowed_error(case, var, slots, grad, *step_arguments, **common)
    got = {"var": new_var, **{f"slot {k}": v for k, v in new_slots.items()}}
    assert got.keys() == exact.keys()
    for key, value in got.items():
        error = np.abs(np.asarray(value, np.float64) - exact[key])
        bad = ~(error <= bound[key])
        assert not bad.any(), (
            f"{case} {key} {value.dtype}: {bad.sum()} of {bad.size} off; first "
            f"at {np.argwhere(bad)[0]}: expected {exact[key][bad].flat[0]!r} within "
            f"{bound[key][bad].flat[0]:.3g}, received {value[bad].flat[0]!r}"
        )


def same_bits(left, right):
    """Equal byte for byte, where any NaN equals any NaN."""
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.tobytes() == right.tobytes():
        return True
    # Which NaN an operation returns is not a value, and IEEE 754 leaves it open.
    word = np.dtype(f"u{left.dtype.itemsize}")
    equal = left.view(word) == right.view(word)
    return bool(np.all(equal | (np.isnan(left) & np.isnan(right))))
