"""Packed slots in the kernels: the format, each instruction set, threads, chance."""

import numpy as np
import pytest

from tests import cases, numerics, packed_codes
from tests.arrays import ISAS, ITERATIONS, LEARNING_RATE, native
from tests.marks import every
from tf_optim import packed, reference, specs

ADAM = cases.Case(next(o for o in cases.OPTIMIZERS if o.name == "Adam"), "amsgrad")
WIDTHS = (1, 3, 16, 50, 127, 128, 129, 300)


def positive(case):
    slots = native.rules()[case.rule]["slots"]
    return {slot["name"]: slot["positive"] for slot in slots}


def as_rows(array):
    return array.reshape(len(array), -1)


def filled(shape, name, value=0.0):
    """A packed slot of one number, which is not negative."""
    if name == "bfloat16":
        return np.full(shape, value, numerics.numpy_dtype("bfloat16"))
    slot = np.zeros((shape[0], packed.bytes_of("int8", shape) // shape[0]), np.uint8)
    if value:
        slot[:, : shape[1]] = packed_codes.TOP
        scales = np.full(packed_codes.blocks(shape[1]), value, np.float32)
        slot[:, shape[1] :] = scales.view(np.uint8)
    return slot


def read(slot, shape, is_positive):
    """A slot's numbers, in float64."""
    if slot.dtype != np.uint8:
        return slot.astype(np.float64)
    return packed_codes.unpacked(slot, shape[1], not is_positive).reshape(shape)


class Packed:
    """A variable with packed slots, after `steps` steps."""

    def __init__(self, case, shape, name, dtype="float32"):
        self.case, self.shape, self.name = case, shape, name
        rng = np.random.default_rng(5)
        self.var = rng.normal(size=shape).astype(numerics.numpy_dtype(dtype))
        self.slots = {
            slot.name: np.zeros(shape[0], np.float32)
            if slot.per_row
            else filled(shape, name, slot.initial)
            for slot in case.slots
        }

    def step(self, iterations, indices=None, drawn_at=None, **options):
        rng = np.random.default_rng(100 + iterations)
        rows = self.shape[0] if indices is None else len(indices)
        # Rows and elements of very different sizes.
        size = 10 ** rng.uniform(-3, 1, size=(rows, self.shape[1]))
        grad = (rng.normal(size=(rows, self.shape[1])) * size).astype(self.var.dtype)
        return self.take(grad, iterations, indices, drawn_at, **options)

    def take(self, grad, iterations, indices=None, drawn_at=None, **options):
        """A step by a gradient."""
        arguments = {
            "rule": self.case.rule,
            "var": [self.var],
            "slots": {key: [value] for key, value in self.slots.items()},
            "grad": [grad],
            "hyper": self.case.op_hyper(iterations),
            "flags": self.case.flags,
            "learning_rate": LEARNING_RATE,
            "iterations": iterations if drawn_at is None else drawn_at,
            **options,
        }
        if indices is None:
            native.dense_apply(**arguments)
        else:
            native.sparse_apply(indices=[np.asarray(indices)], **arguments)
        return grad

    def plain(self):
        signs = positive(self.case)
        return {k: read(v, self.shape, signs[k]) for k, v in self.slots.items()}

    def rows(self):
        """The bytes of each row, of the variable and its slots."""
        arrays = self.var, *self.slots.values()
        return [b"".join(a[i].tobytes() for a in arrays) for i in range(self.shape[0])]

    def bytes(self):
        return [self.var.tobytes(), *(slot.tobytes() for slot in self.slots.values())]


# AdamW's rule is Adam's.
CASES = [
    (case, name)
    for case in (
        cases.Case(row, next(reversed(row.variants))) for row in cases.OPTIMIZERS
    )
    for name in specs.SPECS[case.name].slot_dtypes
    if name != "float32" and case.name != "AdamW"
]
IDS = [3, 0, 3, 5, 3, 0]  # of six rows three are idle


def sums_without_error(iterations, count, width):
    """Rows whose sums float32 holds exactly, of columns of very different sizes."""
    rng = np.random.default_rng(200 + iterations)
    # Of ten bits, so that nothing cancels what a step before has left.
    size = rng.integers(512, 1024, size=width) * 2.0 ** rng.integers(-20, -6, width)
    return (rng.integers(-8, 9, size=(count, width)) * size).astype(np.float32)


@every()
@pytest.mark.parametrize("kind", ["dense gradient", "lazy", "dense"])
@pytest.mark.parametrize("at_random", [False, True])
@pytest.mark.parametrize(("case", "name"), CASES, ids=str)
def test_a_step_is_the_reference_of_what_was_stored(case, name, at_random, kind):
    """float64, from the slots as they are; then each is one of its two neighbours."""
    shape = (6, 150)
    state = Packed(case, shape, name)
    seeds = {"rounding_seeds": [7]} if at_random else {}
    for iterations in range(3):
        var, slots, before = state.var.copy(), state.plain(), state.rows()
        step = case.hyper, LEARNING_RATE, iterations
        if kind == "dense gradient":
            grad = state.step(iterations, **seeds)
            wanted = reference.step(case.name, var, slots, grad, *step)
        else:
            grad = sums_without_error(iterations, len(IDS), shape[1])
            state.take(grad, iterations, IDS, mode=kind, **seeds)
            at = {"indices": IDS, "mode": kind}
            wanted = reference.sparse_step(case.name, var, slots, grad, *step, **at)
        if kind == "lazy":
            changed = {i for i in range(6) if state.rows()[i] != before[i]}
            assert changed == set(IDS)
        assert_is_stored(state, var, *wanted, at_random)


def assert_is_stored(state, var, expected_var, expected, at_random):
    """Asserts that a step from `var` has stored what is expected, as it may.

    Args:
        state: after the step.
        expected_var, expected: the variable and its slots, in float64.
        at_random: whether a slot may be the neighbour that is farther away.
    """
    error = np.abs(state.var - expected_var)
    allowed = 2e-5 + 2e-4 * np.abs(expected_var)
    if state.case.name == "Lamb":  # its second pass reads what its first has stored
        allowed += 0.2 * np.abs(expected_var - var)
        assert (error <= allowed).mean() > 0.95
    else:
        assert (error <= allowed).all()
    signs = positive(state.case)
    for key, value in state.plain().items():
        assert np.isfinite(value).all()
        if value.ndim == 1:  # one number per row, in float32
            np.testing.assert_allclose(value, expected[key], rtol=1e-5)
            continue
        low, high = bounds(expected[key], state.name, signs[key])
        size = np.abs(value)
        slack = 1e-4 * high + 1e-30
        assert (size >= low - slack).all(), key
        assert (size <= high + slack).all(), key
        assert (np.abs(value - expected[key]) <= high - low + slack).all(), key
        if not at_random:
            wrong = np.abs(size - np.abs(expected[key]))
            nearest = np.minimum(
                np.abs(expected[key]) - low, high - np.abs(expected[key])
            )
            floor = 2.0**-15 * high.max() + 1e-30
            assert (wrong <= nearest * 1.01 + slack + floor).all(), key


def bounds(plain, name, is_positive):
    if name == "int8":
        return packed_codes.neighbours(plain, not is_positive)
    size = np.abs(plain)
    unit = 2.0 ** (np.floor(np.log2(np.maximum(size, 1e-38))) - 7)
    low = np.floor(size / unit) * unit
    return low, low + unit


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_same_bits_on_every_instruction_set_and_any_number_of_threads(name, dtype):
    for width in WIDTHS:
        results = set()
        for isa in ISAS:
            for threads in (1, 3):
                state = Packed(ADAM, (11, width), name, dtype)
                options = {"isa": isa, "threads": threads, "rounding_seeds": [3]}
                options["rounds_variables"] = True
                state.step(0, **options)
                state.step(1, [3, 0, 3, 10], mode="lazy", **options)
                state.step(2, [10, 2, 2], mode="dense", **options)
                state.step(3, isa=isa, threads=threads)  # to nearest
                results.add(b"".join(state.bytes()))
        assert len(results) == 1, f"{name}, {dtype}, width {width}"


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_a_lazy_step_touches_its_rows_alone(name):
    state = Packed(ADAM, (40, 70), name)
    state.step(0)
    before = {key: value.copy() for key, value in state.slots.items()}
    state.step(1, [7, 30, 7], mode="lazy", rounding_seeds=[1])
    changed = {7, 30}
    for key, value in state.slots.items():
        rows = np.flatnonzero((value != before[key]).any(axis=1))
        assert set(rows) == changed, key


def test_rounding_at_random_is_right_in_the_mean():
    """A step of a quarter of a bfloat16's last place, 10^5 times at once."""
    sgd = cases.Case(next(o for o in cases.OPTIMIZERS if o.name == "SGD"), "plain")
    count = 10**5
    step = 2.0**-9  # the last place of numbers below 1 is 2^-8
    for dtype, start in (("bfloat16", 0.75), ("float16", 0.75 / 8), ("float16", 2e-5)):
        last = {"bfloat16": 2.0**-8, "float16": 2.0**-14 if start > 1e-3 else 2.0**-24}
        step = last[dtype] / 4
        var = np.full(count, start).astype(numerics.numpy_dtype(dtype))
        start = float(var[0])
        # lr * grad is the step, exactly.
        grad = np.full(count, 1.0).astype(var.dtype)
        arguments = {"rule": sgd.rule, "slots": {}, "grad": [grad]}
        arguments |= {"iterations": ITERATIONS, "learning_rate": step}
        arguments["hyper"] = sgd.op_hyper(0)
        nearest = var.copy()
        native.dense_apply(var=[nearest], **arguments)
        assert (nearest == var).all()
        native.dense_apply(
            var=[var], rounding_seeds=[11], rounds_variables=True, **arguments
        )
        moved = start - var.astype(np.float64)
        assert set(np.unique(moved)) == {0.0, last[dtype]}
        error = 5 * last[dtype] * np.sqrt(0.25 * 0.75 / count)
        assert abs(moved.mean() - step) < error, dtype


def test_seeds_steps_and_elements_draw_apart():
    def drawn(seed, iterations):
        state = Packed(ADAM, (4, 256), "int8")
        state.step(0)
        # The same gradient, and a momentum that does not know the step's number.
        state.step(1, rounding_seeds=[seed], drawn_at=iterations)
        return state.slots["momentum"][:, :256].ravel()

    one = drawn(1, 1)
    assert (one == drawn(1, 1)).all()
    assert (one != drawn(2, 1)).mean() > 0.2
    assert (one != drawn(1, 2)).mean() > 0.2


def test_the_format_of_all_magnitudes():
    """SGD's momentum takes any number: each is within 1/16 of what is stored."""
    sgd = cases.Case(next(o for o in cases.OPTIMIZERS if o.name == "SGD"), "momentum")
    for exponent in range(-126, 127, 7):
        rng = np.random.default_rng(exponent + 200)
        grad = rng.uniform(1, 2, size=(3, 130)) * 2.0**exponent
        grad *= rng.choice([-1.0, 1.0], size=grad.shape)
        grad[0, :5] = 0
        grad = grad.astype(np.float32)
        slot = filled(grad.shape, "int8")
        var = np.zeros_like(grad)
        native.dense_apply(
            rule=sgd.rule,
            var=[var],
            slots={"momentum": [slot]},
            grad=[grad],
            hyper=sgd.op_hyper(0),
            learning_rate=1.0,
            iterations=0,
        )
        stored = read(slot, grad.shape, False)
        assert (stored[0, :5] == 0).all()
        np.testing.assert_allclose(stored, -grad, rtol=1 / 16)


def test_what_is_not_finite_stays_where_it_is():
    """Blocks before and behind it are packed in another way, to the same bits."""
    shape = (3, 520)
    results = set()
    for isa in ISAS:
        state = Packed(ADAM, shape, "int8")
        state.step(0, isa=isa)
        state.var[1, 7] = 1.0
        grad = np.ones(shape, np.float32)
        grad[1, 7] = np.nan
        grad[2, 300] = np.inf
        state.take(grad, 1, isa=isa)
        state.step(2, isa=isa, rounding_seeds=[4])
        wrong = ~np.isfinite(grad)
        for key, value in state.plain().items():
            assert (np.isnan(value) == wrong).all(), key
        assert (np.isnan(state.var) == wrong).all()
        results.add(b"".join(state.bytes()))
    assert len(results) == 1


def test_a_second_moment_does_not_become_zero():
    state = Packed(ADAM, (1, 128), "int8")
    grad = np.full((1, 128), 1e-9, np.float32)
    grad[0, 0] = 1e3
    grad[0, 1] = 0
    state.take(grad, 0)
    velocity = state.plain()["velocity"][0]
    assert velocity[1] == 0
    assert (velocity[2:] > 0).all()
