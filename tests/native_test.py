"""The dense kernels on plain arrays: edges, instruction sets, threads, rounding.

Nothing here goes through TensorFlow; arrays go to tf_optim._native.
"""

import numpy as np
import pytest

from tests import cases, numerics
from tests.arrays import (
    ISAS,
    ITERATIONS,
    LEARNING_RATE,
    State,
    assert_same,
    native,
)
from tests.marks import every, every_case, every_dtype, richest


def test_the_table_is_the_library():
    rules = native.rules()
    rows = {row.rule or row.name: row for row in reversed(cases.OPTIMIZERS)}
    assert set(rules) == set(rows)
    for name, row in rows.items():
        inputs = set(cases.Case(row, next(iter(row.variants))).op_hyper(0))
        assert set(rules[name]["hyper"]) == inputs
        assert rules[name]["flags"] == list(row.flags)
        said = [
            (slot["name"], slot["optional"], slot["per_row"])
            for slot in rules[name]["slots"]
        ]
        assert said == [
            (slot.name, slot.option is not None, slot.per_row) for slot in row.slots
        ]


def test_isas():
    assert ISAS[:2] == ["scalar", "baseline"]
    assert native.build_info()["isa"] in ISAS


@every()
@every_dtype
@every_case
def test_dense_is_the_reference(case, dtype):
    var, slots, grad = numerics.draw(np.random.default_rng(0), case, 5000, dtype)
    state = State(var, slots, grad).run(case)
    numerics.assert_step(
        case, (var, slots), state.after(), grad, LEARNING_RATE, ITERATIONS
    )


@every_dtype
@richest
def test_dense_clipping_and_decay_are_the_reference(case, dtype):
    var, slots, grad = numerics.draw(np.random.default_rng(1), case, 3000, dtype)
    tail = {"gradient_scale": 0.37, "clip_value": 0.2, "weight_decay": 0.05}
    state = State(var, slots, grad)
    state.run(case, **{k: v if k == "clip_value" else [v] for k, v in tail.items()})
    numerics.assert_step(
        case, (var, slots), state.after(), grad, LEARNING_RATE, ITERATIONS, **tail
    )


@every_case
def test_dense_first_steps(case):
    """From slots as built, where bias corrections are largest."""
    rng = np.random.default_rng(2)
    var = rng.normal(size=200).astype("float32")
    slots = {s.name: s.start(var).astype("float32") for s in case.slots}
    for iterations in (*range(4), 10**5):
        grad = rng.normal(size=200).astype("float32")
        state = State(var, slots, grad).run(
            case, iterations=iterations, hyper=case.op_hyper(iterations)
        )
        numerics.assert_step(
            case, (var, slots), state.after(), grad, LEARNING_RATE, iterations
        )
        var, slots = state.after()


@every_dtype
@every_case
def test_dense_sweep(case, dtype):
    """Counts around whole vectors x misalignment x instruction set."""
    lanes = 64 // numerics.slot_dtype(dtype).itemsize  # of the widest vectors
    most = 2 * lanes + 2
    var, slots, grad = numerics.draw(np.random.default_rng(3), case, most, dtype)
    expected = State(var, slots, grad).run(case, isa="scalar").result()
    for count in range(most + 1):
        if case.scope != "element":
            part = State(
                var[:count], {k: v[:count] for k, v in slots.items()}, grad[:count]
            )
            expected = part.run(case, isa="scalar").result()
        for offset in range(9):
            for isa in ISAS:
                state = State(
                    var[:count],
                    {key: value[:count] for key, value in slots.items()},
                    grad[:count],
                    offset=offset,
                )
                state.run(case, isa=isa)
                what = f"{isa}, {count} elements at offset {offset}"
                assert all(guard.intact() for guard in state.guards()), what
                assert_same(
                    state.result(),
                    {key: value[:count] for key, value in expected.items()},
                    what,
                )


def special_values(dtype):
    info = numerics.ml_dtypes.finfo(dtype)
    values = [0.0, 1.0, 0.1, 3.0, 1e-4, float(info.max), float(info.tiny)]
    values += [
        float(info.smallest_subnormal),
        float(info.tiny) / 2,
        float(info.max) / 3,
    ]
    values += [np.inf, 1e-20, 1e18]
    with np.errstate(over="ignore", under="ignore"):
        return np.array([*values, *(-v for v in values), np.nan]).astype(dtype)


@every()
@every_dtype
@every_case
def test_every_isa_gives_the_same_bits(case, dtype):
    """Also for NaN, infinities, denormals and what overflows."""
    special = special_values(numerics.numpy_dtype(dtype))
    var, grad = (a.ravel() for a in np.meshgrid(special, special))
    rng = np.random.default_rng(5)
    wide = special_values(numerics.slot_dtype(dtype))
    slots = {}
    for slot in case.slots:
        value = rng.choice(wide, size=var.size)
        value[::3] = slot.start(var)[::3]
        slots[slot.name] = np.abs(value) if slot.share is None else value
    many = [numerics.draw(rng, case, 4099, dtype), (var, slots, grad)]
    for tail in (
        {},
        {"gradient_scale": [3.0], "clip_value": 0.7, "weight_decay": [0.1]},
    ):
        for arrays in many:
            expected = State(*arrays).run(case, isa=ISAS[0], **tail).result()
            for isa in ISAS[1:]:
                result = State(*arrays).run(case, isa=isa, **tail).result()
                assert_same(result, expected, f"{isa} from {ISAS[0]}")


@every_dtype
@every_case
def test_any_number_of_threads_gives_the_same_bits(case, dtype):
    rng = np.random.default_rng(7)
    # One is too large to be measured and updated together with the others.
    sizes = (1, 800_007, 0, 1000, 17)
    arrays = [numerics.draw(rng, case, n, dtype) for n in sizes]
    expected = None
    for threads in (1, 2, 3, 8):
        states = [State(*a) for a in arrays]
        native.dense_apply(
            rule=case.rule,
            var=[s.var.array for s in states],
            slots={
                slot.name: [s.slots[slot.name].array for s in states]
                for slot in case.slots
            },
            grad=[s.grad.array for s in states],
            hyper=case.op_hyper(ITERATIONS),
            flags=case.flags,
            learning_rate=LEARNING_RATE,
            iterations=ITERATIONS,
            threads=threads,
        )
        results = [state.result() for state in states]
        expected = expected or results
        for i, (result, wanted) in enumerate(zip(results, expected, strict=True)):
            assert_same(result, wanted, f"{threads} threads, array {i}")
    # ... and a list is its variables one by one.
    for state, wanted in zip((State(*a) for a in arrays), expected, strict=True):
        assert_same(state.run(case).result(), wanted, "list")


@every_dtype
@every_case
def test_nan_and_infinity_propagate(case, dtype):
    var, slots, grad = numerics.draw(np.random.default_rng(8), case, 40, dtype)
    grad[5], grad[6], grad[39] = np.nan, np.inf, np.nan
    for tail in ({}, {"clip_value": 1.0}):
        for isa in ISAS:
            state = State(var, slots, grad).run(case, isa=isa, **tail)
            follow = {"var", *(s.name for s in case.slots if s.follows_nan)}
            for key, value in state.result().items():
                value = value.astype(np.float64)
                if key.removeprefix("slot ") in follow:
                    assert np.isnan(value[[5, 39]]).all(), f"{key} {isa} {tail}"
                others = np.delete(value, [5, 6, 39])
                assert np.isfinite(others).all(), f"{key} {isa} {tail}"
            exact, _ = numerics.allowed_error(
                case, var, slots, grad, LEARNING_RATE, ITERATIONS, **tail
            )
            np.testing.assert_equal(
                np.isfinite(state.var.array.astype(np.float64)),
                np.isfinite(exact["var"]),
            )


CENTERED = [case for case in cases.CASES if case.arguments.get("centered")]


@every()
@every_dtype
@pytest.mark.parametrize("case", CENTERED, ids=str)
def test_a_variance_that_rounding_makes_negative_is_zero(case, dtype):
    """Gradients that have always been the same: a mean of squares, rounded down,
    less the square of the mean."""
    rng = np.random.default_rng(9)
    var, slots, _ = numerics.draw(rng, case, 999, dtype)
    constant = rng.uniform(0.5, 2.0, size=999).astype(var.dtype)
    mean = constant.astype(numerics.slot_dtype(dtype))
    squares = (mean**2 * (1 - 4 * numerics.unit(mean.dtype))).astype(mean.dtype)
    slots |= {"average_gradient": mean, "velocity": squares}
    epsilon = 1e-20 if dtype == "float64" else 1e-8
    hyper = case.op_hyper(ITERATIONS) | {"epsilon": epsilon}
    # At most a step over the root of epsilon, and what momentum is left.
    most = LEARNING_RATE * constant.astype(np.float64) / np.sqrt(epsilon) * 1.01 + 2
    for isa in ISAS:
        state = State(var, slots, constant).run(case, isa=isa, hyper=hyper)
        moved = var.astype(np.float64) - state.var.array.astype(np.float64)
        assert (np.abs(moved) <= most).all()  # NaN is not
        assert (moved > 0).mean() > 0.99


# --- rounding to 16 bits


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_storage_rounds_to_nearest_even(dtype):
    """Every one of the 65,536 values, minus a value that makes it inexact.

    RMSprop with rho = 0 and epsilon = 0 subtracts learning_rate * sign(g), so
    the float32 result is one subtraction, which NumPy does as well.
    """
    storage = numerics.numpy_dtype(dtype)
    var = np.arange(2**16, dtype=np.uint16).view(storage)
    for grad_sign in (1.0, -1.0):
        grad = np.full(var.shape, grad_sign, storage)
        slots = {"velocity": np.ones(var.shape, np.float32)}
        for exponent in (-26, -24, -20, -14, -11, -9, -7, -2, 0, 4, 5, 12):
            rate = np.float32(2.0**exponent)
            with np.errstate(all="ignore"):
                expected = var.astype(np.float32) - np.float32(grad_sign) * rate
                expected = expected.astype(storage)
            for isa in ISAS:
                state = State(var, slots, grad)
                native.dense_apply(
                    rule="RMSprop",
                    var=[state.var.array],
                    slots={"velocity": [state.slots["velocity"].array]},
                    grad=[state.grad.array],
                    hyper={"rho": 0.0, "momentum_rate": 0.0, "epsilon": 0.0},
                    learning_rate=float(rate),
                    iterations=0,
                    isa=isa,
                )
                assert_same(
                    {"var": state.var.array}, {"var": expected}, f"{isa}, {rate}"
                )


# --- errors


HYPER = cases.RICHEST[0].op_hyper(ITERATIONS)


def bad_calls():
    """name -> (change of a good call's arguments, what the message says)."""
    yield "grad size", {"grad": lambda g: g[:-1]}, "grad"
    yield "grad dtype", {"grad": lambda g: g.astype("float64")}, "float32"
    yield "unknown isa", {"isa": "sse9"}, "sse9"
    yield "unknown rule", {"rule": "Magic"}, "Magic"
    yield "rho", {"hyper": {**HYPER, "rho": 1.0}}, r"rho must be in \[0, 1\). .*: 1\."
    yield (
        "nan",
        {"hyper": {**HYPER, "epsilon": np.nan}},
        "epsilon must be a finite .*nan",
    )
    yield "clip", {"clip_value": -1.0}, "clip_value must be >= 0. Received: -1."
    yield "iterations", {"iterations": -1}, "iterations must be >= 0. Received: -1."
    yield "scales", {"gradient_scale": [1.0]}, "gradient_scale must have 2 .*: 1\\."
    yield "decays", {"weight_decay": [0.0] * 3}, "weight_decay must have 2 .*: 3\\."
    yield "decay", {"weight_decay": [0.0, -1.0]}, r"weight_decay\[1\] must be a finite"


@pytest.mark.parametrize(
    ("change", "message"), [b[1:] for b in bad_calls()], ids=[b[0] for b in bad_calls()]
)
def test_native_errors_write_nothing(change, message):
    case = cases.RICHEST[0]
    states = [
        State(*numerics.draw(np.random.default_rng(i), case, 10, "float32"))
        for i in range(2)
    ]
    before = [{k: v.copy() for k, v in state.result().items()} for state in states]
    arguments = {
        "rule": case.rule,
        "var": [s.var.array for s in states],
        "slots": {
            slot.name: [s.slots[slot.name].array for s in states] for slot in case.slots
        },
        "grad": [s.grad.array for s in states],
        "hyper": case.op_hyper(ITERATIONS),
        "flags": case.flags,
        "learning_rate": 0.1,
        "iterations": 0,
    }
    for key, value in change.items():
        # Only the second variable is wrong; the first must not change either.
        arguments[key] = (
            [arguments[key][0], value(arguments[key][1])] if callable(value) else value
        )
    with pytest.raises((ValueError, RuntimeError), match=message):
        native.dense_apply(**arguments)
    for state, old in zip(states, before, strict=True):
        assert_same(state.result(), old, "written before the error")
