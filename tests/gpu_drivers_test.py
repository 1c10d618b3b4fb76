"""The GPU drivers against the reference: their emulation, block by block on the CPU.

tests/gpu_check.py runs the same tests on a GPU. What the emulation leaves out:
launches, shuffles, atomics and CUB's radix sort.
"""

import numpy as np
import pytest

from tests import cases, numerics
from tests.gpu_states import ITERATIONS, LEARNING_RATE, State, gpu, step
from tests.marks import every_case, every_dtype, modes, richest

CHUNK = 8192  # the most elements of a block, of any dtype


def assert_same(left, right, what):
    for key, value in left.items():
        assert numerics.same_bits(value, right[key]), f"{key} differs: {what}"


def test_the_library_knows_every_rule():
    assert set(gpu.rules) == {case.rule for case in cases.CASES}


@every_dtype
@every_case
def test_dense_is_the_reference(case, dtype):
    """A list of lengths around packs, blocks and their ends, some misaligned."""
    rng = np.random.default_rng(0)
    lengths = [1, 0, 7, 16, 1023, CHUNK, CHUNK + 1, 2 * CHUNK + 5]
    arrays = [numerics.draw(rng, case, n, dtype) for n in lengths]
    states = [State(*a, offset=i % 3) for i, a in enumerate(arrays)]
    step(case, states)
    for (var, slots, grad), state in zip(arrays, states, strict=True):
        numerics.assert_step(
            case, (var, slots), state.after(), grad, LEARNING_RATE, ITERATIONS
        )


@richest
def test_dense_matrices_are_the_reference(case):
    """Rules that look at rows: rows of one pack, of several, of a block's."""
    rng = np.random.default_rng(1)
    shapes = [(300, 4), (5, 7), (40, 64), (3, 200), (3, 130), (2, 4 * 256)]
    shapes += [(2, 5000), (9, 1)]
    arrays = [numerics.draw(rng, case, shape, "float32") for shape in shapes]
    states = [State(*a) for a in arrays]
    step(case, states)
    for (var, slots, grad), state in zip(arrays, states, strict=True):
        numerics.assert_step(
            case, (var, slots), state.after(), grad, LEARNING_RATE, ITERATIONS
        )


@richest
def test_a_list_longer_than_a_table(case):
    """More variables than a launch has room for, each with numbers of its own."""
    rng = np.random.default_rng(2)
    arrays = [
        numerics.draw(rng, case, int(n), "float32") for n in rng.integers(0, 99, 200)
    ]
    scale = rng.uniform(0.1, 2, 200)
    decay = rng.uniform(0, 0.1, 200).tolist()
    states = [State(*a) for a in arrays]
    step(case, states, gradient_scale=scale, weight_decay=decay, clip_value=0.7)
    for i, (var, slots, grad) in enumerate(arrays):
        numerics.assert_step(
            case,
            (var, slots),
            states[i].after(),
            grad,
            LEARNING_RATE,
            ITERATIONS,
            gradient_scale=float(scale[i]),
            clip_value=0.7,
            weight_decay=decay[i],
        )


def test_learning_rate_may_be_float32():
    case = cases.CASES[0]
    var, slots, grad = numerics.draw(np.random.default_rng(3), case, 50, "float32")
    state = State(var, slots, grad)
    step(case, [state], learning_rate_dtype="float32")
    rate = float(np.float32(LEARNING_RATE))
    numerics.assert_step(case, (var, slots), state.after(), grad, rate, ITERATIONS)


def draw_table(case, rng, rows, width, dtype, ids):
    var, slots, _ = numerics.draw(rng, case, (rows, width), dtype)
    # On a grid, so that sums of a few are exact in every order and type.
    grad = rng.integers(-8, 9, size=(len(ids), width)) / 4.0
    return var, slots, grad.astype(numerics.numpy_dtype(dtype))


def assert_sparse_step(case, arrays, state, ids, mode, **common):
    """`state` is `arrays` after a step on the rows that `ids` name."""
    var, slots, grad = arrays
    inside = (ids >= 0) & (ids < len(var))
    rows, summed = numerics.reference.sum_duplicates(grad[inside], ids[inside])
    if mode == "dense":
        whole = np.zeros(var.shape)
        whole[rows] = summed
        rows, summed = np.arange(len(var)), whole
    new_var, new_slots = state.after()
    numerics.assert_step(
        case,
        (var[rows], {k: v[rows] for k, v in slots.items()}),
        (new_var[rows], {k: v[rows] for k, v in new_slots.items()}),
        summed,
        LEARNING_RATE,
        ITERATIONS,
        **common,
    )
    others = np.setdiff1d(np.arange(len(var)), rows)
    assert new_var[others].tobytes() == var[others].tobytes()
    for key, value in slots.items():
        assert new_slots[key][others].tobytes() == value[others].tobytes()


@modes
@every_dtype
@every_case
def test_sparse_is_the_reference_on_the_summed_gradient(case, dtype, mode):
    """Several tables in one call: widths, repeated ids, rows nobody names."""
    rng = np.random.default_rng(4)
    tables = [(40, 8, 25), (3, 5, 100), (70, 1, 50), (20, 64, 0), (9, 33, 9)]
    ids = [rng.integers(0, rows, n).astype("int64") for rows, _, n in tables]
    arrays = [
        draw_table(case, rng, rows, width, dtype, i)
        for (rows, width, _), i in zip(tables, ids, strict=True)
    ]
    states = [
        State(*a, i, offset=k % 2)
        for k, (a, i) in enumerate(zip(arrays, ids, strict=True))
    ]
    step(case, states, mode=mode)
    for a, state, i in zip(arrays, states, ids, strict=True):
        assert_sparse_step(case, a, state, i, mode)


@modes
@pytest.mark.parametrize("width", (1, 3, 4, 40, 128, 200, 400, 1024, 2052))
@richest
def test_sparse_widths_tail_and_narrow_indices(case, width, mode):
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 30, 45).astype("int32")
    arrays = draw_table(case, rng, 30, width, "float32", ids)
    tail = {"clip_value": 0.9, "weight_decay": 0.05, "gradient_scale": 0.375}
    state = State(*arrays, ids)
    step(
        case,
        [state],
        mode=mode,
        clip_value=tail["clip_value"],
        weight_decay=[tail["weight_decay"]],
        gradient_scale=[tail["gradient_scale"]],
    )
    assert_sparse_step(case, arrays, state, ids, mode, **tail)


@modes
@pytest.mark.parametrize("width", (1, 4, 6))
def test_every_position_of_a_long_run_is_added_once(width, mode):
    """Lengths around pieces' and their squares: SGD subtracts the exact sum."""
    case = next(c for c in cases.CASES if c.rule == "SGD" and not c.slots)
    lengths = [1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 500, 1023, 1024]
    lengths += [1025, 1026, 2049, 4095, 4096, 4097, 5000]
    rng = np.random.default_rng(6)
    for shift in (0, 1, 17, 31):
        rows = [0] * shift + [
            row for row, n in enumerate(lengths, start=1) for _ in range(n)
        ]
        ids = rng.permutation(np.array(rows, "int64"))
        grad = rng.integers(-64, 65, (len(ids), width)).astype("float32")
        var = np.zeros((len(lengths) + 2, width), "float32")
        state = State(var, {}, grad, ids)
        step(case, [state], learning_rate=1.0, learning_rate_dtype="float32", mode=mode)
        expected = np.zeros(var.shape)
        np.subtract.at(expected, ids, grad)
        np.testing.assert_array_equal(state.var.array, expected)


@richest
def test_a_row_is_the_same_bits_whatever_else_is_in_the_batch(case):
    """Also in a long run, whose sum depends on where it is cut."""
    if case.scope == "variable":
        pytest.skip("its rows depend on each other")
    rng = np.random.default_rng(7)
    var, slots, _ = numerics.draw(rng, case, (50, 12), "float32")
    mine = rng.normal(size=(1500, 12)).astype("float32")
    results = []
    for others in (0, 1, 40, 333):
        ids = np.concatenate([np.full(1500, 20), rng.integers(0, 20, others)])
        grad = np.concatenate([mine, rng.normal(size=(others, 12))]).astype("float32")
        state = State(var, slots, grad, ids.astype("int64"))
        step(case, [state])
        results.append({key: value[20] for key, value in state.result().items()})
    for result in results[1:]:
        assert_same(result, results[0], "row 20")


@modes
@pytest.mark.parametrize("index_dtype", cases.INDEX_DTYPES)
@richest
def test_an_index_outside_its_table_is_skipped_and_reported(case, index_dtype, mode):
    rng = np.random.default_rng(8)
    states, arrays = [], []
    for bad in ({}, {3: 10, 40: -1, 41: 2**31 - 1}, {0: -5}):
        ids = rng.integers(0, 10, 60).astype(index_dtype)
        for position, value in bad.items():
            ids[position] = value
        arrays.append((draw_table(case, rng, 10, 6, "float32", ids), ids))
        states.append(State(*arrays[-1][0], ids))
    step(case, states, mode=mode)
    report = gpu.report
    assert report.found
    assert (report.item, report.position, report.received, report.rows) == (
        1,
        3,
        10,
        10,
    )
    # The first one stands until the host has read it.
    step(case, [State(*arrays[2][0], arrays[2][1])], mode=mode)
    assert (report.item, report.position) == (1, 3)
    report.found = 0
    step(case, [State(*arrays[2][0], arrays[2][1])], mode=mode)
    assert (report.item, report.position, report.received) == (0, 0, -5)
    report.found = 0
    step(case, [State(*arrays[0][0], arrays[0][1])], mode=mode)
    assert not report.found
    for (a, ids), state in zip(arrays, states, strict=True):
        assert_sparse_step(case, a, state, ids, mode)


@modes
@pytest.mark.parametrize("shape", ((0, 4), (5, 0)))
@richest
def test_a_table_without_elements_has_its_indices_checked(case, shape, mode):
    var, slots, grad = draw_table(
        case, np.random.default_rng(11), *shape, "float32", [9]
    )
    state = State(var, slots, grad, np.array([9]))
    step(case, [state], mode=mode)
    assert (gpu.report.found, gpu.report.received, gpu.report.rows) == (1, 9, shape[0])
    gpu.report.found = 0
    assert_same(state.result(), {"var": var, **slots}, "nothing to write")


@modes
def test_more_tables_than_a_launch_has_room_for(mode):
    case = cases.RICHEST[0]
    rng = np.random.default_rng(9)
    ids = [rng.integers(0, 8, int(n)).astype("int64") for n in rng.integers(0, 70, 90)]
    arrays = [draw_table(case, rng, 8, 4, "float32", i) for i in ids]
    states = [State(*a, i) for a, i in zip(arrays, ids, strict=True)]
    step(case, states, mode=mode)
    for a, state, i in zip(arrays, states, ids, strict=True):
        assert_sparse_step(case, a, state, i, mode)


@modes
@pytest.mark.parametrize("rule", ("Adam", "RowWiseAdagrad", "Lamb"))
def test_threads_that_take_several_rows_in_turn(rule, mode):
    """So many rows that they do, of a column per thread; some blocks are not full."""
    case = next(c for c in cases.RICHEST if c.rule == rule)
    rng = np.random.default_rng(12)
    rows, width = 16_411, 64
    ids = rng.permutation(np.r_[np.arange(rows), rng.integers(0, rows, 333)])
    arrays = draw_table(case, rng, rows, width, "float32", ids)
    state = State(*arrays, ids, offset=1)
    step(case, [state], mode=mode)
    assert_sparse_step(case, arrays, state, ids, mode)


@pytest.mark.parametrize("rule", ("RowWiseAdagrad", "RowWiseAdam"))
def test_threads_that_take_several_dense_rows_in_turn(rule):
    case = next(c for c in cases.CASES if c.rule == rule)
    arrays = numerics.draw(np.random.default_rng(13), case, (16_411, 64), "float32")
    state = State(*arrays, offset=1)
    step(case, [state])
    var, slots, grad = arrays
    numerics.assert_step(
        case, (var, slots), state.after(), grad, LEARNING_RATE, ITERATIONS
    )


@modes
@richest
def test_a_step_is_the_same_bits_every_time(case, mode):
    """Long runs, several tables, blocks that end in any order."""
    rng = np.random.default_rng(10)
    ids = [rng.zipf(1.3, 20_000).clip(max=400) - 1 for _ in range(3)]
    arrays = [
        (*numerics.draw(rng, case, (400, 16), "float32")[:2],)
        + (rng.normal(size=(20_000, 16)).astype("float32"),)
        for _ in ids
    ]
    results = []
    for _ in range(3):
        states = [
            State(*a, i.astype("int32")) for a, i in zip(arrays, ids, strict=True)
        ]
        step(case, states, mode=mode)
        results.append([state.result() for state in states])
    for other in results[1:]:
        for result, expected in zip(other, results[0], strict=True):
            assert_same(result, expected, "a second time")
