"""The sparse kernels on plain arrays: ids, widths, threads, instruction sets.

Nothing here goes through TensorFlow; arrays go to tf_optim._native.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import cases, numerics
from tests.arrays import (
    ISAS,
    ITERATIONS,
    LEARNING_RATE,
    State,
    assert_same,
    assert_same_step,
    native,
)
from tests.marks import every, every_case, every_dtype, every_index_dtype, richest


def rows_of(case, rng, rows, width, dtype, ids):
    var, slots, _ = numerics.draw(rng, case, (rows, width), dtype)
    # On a grid, so that sums of a few are exact in every order and type.
    grad = rng.integers(-8, 9, size=(len(ids), width)) / 4.0
    return var, slots, grad.astype(numerics.numpy_dtype(dtype))


IDS = {
    "unique": [7, 2, 9, 0, 4],
    "repeated": [3, 3, 8, 3, 0, 8, 3],
    "sorted": [1, 1, 2, 5, 5, 5, 9],
    "reversed": [9, 6, 5, 2, 1, 0],
    "one row": [6],
    "one row often": [5] * 20,
    "every row": list(range(10)),
    "empty": [],
}


def check_sparse(case, var, slots, grad, indices, mode, **tail):
    """The kernel against the reference; repeated rows against their sum."""
    rows, summed = numerics.reference.sum_duplicates(grad, indices)
    native_tail = {k: v if k == "clip_value" else [v] for k, v in tail.items()}
    state = State(var, slots, grad, indices).run(case, mode=mode, **native_tail)
    new_var, new_slots = state.after()
    assert all(guard.intact() for guard in state.guards())
    if mode == "dense":
        rows = np.arange(len(var))
        whole = np.zeros(var.shape)
        whole[np.unique(indices)] = summed
        summed = whole
    numerics.assert_step(
        case,
        (var[rows], {k: v[rows] for k, v in slots.items()}),
        (new_var[rows], {k: v[rows] for k, v in new_slots.items()}),
        summed,
        LEARNING_RATE,
        ITERATIONS,
        **tail,
    )
    others = np.setdiff1d(np.arange(len(var)), rows)
    assert new_var[others].tobytes() == var[others].tobytes()
    for key, value in slots.items():
        assert new_slots[key][others].tobytes() == value[others].tobytes()
    return state


@every("case", "dtype")
@every_index_dtype
@every_dtype
@every_case
def test_sparse_is_the_reference_on_the_summed_gradient(case, dtype, index_dtype):
    rng = np.random.default_rng(9)
    for ids in IDS.values():
        var, slots, grad = rows_of(case, rng, 10, 5, dtype, ids)
        indices = np.array(ids, index_dtype)
        for mode in ("lazy", "dense"):
            check_sparse(case, var, slots, grad, indices, mode)
            check_sparse(
                case,
                var,
                slots,
                grad,
                indices,
                mode,
                gradient_scale=0.3,
                clip_value=0.5,
                weight_decay=0.02,
            )


@every_case
def test_sparse_sweep(case):
    """Row widths 1..70 at every misalignment, sentinels around."""
    rng = np.random.default_rng(10)
    ids = np.array([3, 0, 3, 6, 6, 1, 3], np.int64)
    for dtype in cases.DTYPES:
        for width in range(1, 71):
            var, slots, grad = rows_of(case, rng, 7, width, dtype, ids)
            expected = None
            for offset in (0, 1 + width % 8):
                for isa in ISAS:
                    state = State(var, slots, grad, ids, offset).run(case, isa=isa)
                    what = f"{isa} {dtype} width {width} offset {offset}"
                    assert all(guard.intact() for guard in state.guards()), what
                    if expected is None:
                        check_sparse(case, var, slots, grad, ids, "lazy")
                        expected = state.result()
                    assert_same(state.result(), expected, what)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "case", [c for c in cases.RICHEST if c.scope == "element"], ids=str
)
def test_columns_of_narrow_tables_are_those_of_wider_ones(case, dtype):
    """Rows of up to 4 elements are stepped together."""
    rng = np.random.default_rng(20)
    ids = np.concatenate([rng.integers(0, 1500, size=900), [1499] * 5, [0]])
    var, slots, grad = rows_of(case, rng, 1500, 6, dtype, ids)
    tail = {"weight_decay": [0.02], "gradient_scale": [0.5]}

    def stepped(width, **options):
        of = {key: value[:, :width] for key, value in slots.items()}
        state = State(var[:, :width], of, grad[:, :width], ids)
        state.run(case, **tail, **options)
        assert all(guard.intact() for guard in state.guards())
        return state.result()

    for mode in ("lazy", "dense"):
        wide = stepped(6, mode=mode)
        for width, isa in itertools.product(range(1, 6), ISAS):
            narrow = stepped(width, mode=mode, isa=isa)
            columns = {key: value[:, :width] for key, value in wide.items()}
            assert_same(narrow, columns, f"{mode} {isa} width {width}")


@every_dtype
@every_case
def test_repeated_rows_are_one_row_with_their_sum(case, dtype):
    """Same bits: the sums here are exact."""
    rng = np.random.default_rng(11)
    ids = rng.integers(0, 12, size=40)
    var, slots, grad = rows_of(case, rng, 12, 9, dtype, ids)
    rows, summed = numerics.reference.sum_duplicates(grad, ids)
    summed = summed.astype(grad.dtype)
    for mode in ("lazy", "dense"):
        repeated = State(var, slots, grad, ids).run(case, mode=mode).result()
        unique = State(var, slots, summed, rows).run(case, mode=mode).result()
        assert_same_step(case, repeated, unique, mode)


@every_dtype
@every_case
def test_dense_mode_is_the_dense_gradient(case, dtype):
    """Same bits as dense_apply; also when all or no rows are touched."""
    rng = np.random.default_rng(12)
    for ids in IDS.values():
        var, slots, grad = rows_of(case, rng, 10, 7, dtype, ids)
        whole = np.zeros(var.shape, var.dtype)
        rows, summed = numerics.reference.sum_duplicates(grad, np.array(ids, int))
        whole[rows] = summed
        for tail in ({}, {"gradient_scale": [0.5], "weight_decay": [0.1]}):
            sparse = State(var, slots, grad, np.array(ids, np.int32))
            sparse.run(case, mode="dense", **tail)
            dense = State(var, slots, whole).run(case, **tail)
            what = f"{ids} {tail}"
            assert_same_step(case, sparse.result(), dense.result(), what)


@every_case
def test_lazy_on_every_row_is_dense(case):
    var, slots, grad = rows_of(
        case, np.random.default_rng(13), 30, 6, "float32", range(30)
    )
    order = np.random.default_rng(14).permutation(30)
    sparse = State(var, slots, grad[order], order).run(case)
    assert_same(sparse.result(), State(var, slots, grad).run(case).result(), "lazy")


@every_index_dtype
@every_dtype
@every_case
def test_sparse_threads_give_the_same_bits(case, dtype, index_dtype):
    """Zipf ids: runs of thousands of one id beside rows hit once."""
    rng = np.random.default_rng(15)
    ids = (rng.zipf(1.2, size=30_000) % 5000).astype(index_dtype)
    assert np.bincount(ids).max() > 3000
    var, slots, _ = numerics.draw(rng, case, (5000, 9), dtype)
    grad = rng.normal(size=(len(ids), 9)).astype(var.dtype)
    for mode in ("lazy", "dense"):
        expected = None
        for threads in (1, 2, 3, 8):
            state = State(var, slots, grad, ids).run(case, mode=mode, threads=threads)
            expected = expected or state.result()
            assert_same(state.result(), expected, f"{threads} threads, {mode}")


@richest
def test_order_of_other_rows_does_not_matter(case):
    """A row's bits follow its own gradients, in their order, alone."""
    rng = np.random.default_rng(16)
    ids = rng.integers(0, 40, size=300)
    var, slots, _ = numerics.draw(rng, case, (40, 5), "float32")
    grad = rng.normal(size=(300, 5)).astype("float32")
    order = np.argsort(ids % 7, kind="stable")  # keeps the order within an id
    left = State(var, slots, grad, ids).run(case).result()
    right = State(var, slots, grad[order], ids[order]).run(case).result()
    assert_same(left, right, "order")


@richest
def test_sparse_list_is_its_variables_one_by_one(case):
    rng = np.random.default_rng(17)
    shapes = [(10, 4, 20), (1, 7, 3), (500, 1, 0), (6, 33, 5), (2000, 16, 700)]
    arrays = []
    for rows, width, count in shapes:
        var, slots, _ = numerics.draw(rng, case, (rows, width), "float32")
        grad = rng.normal(size=(count, width)).astype("float32")
        arrays.append((var, slots, grad, rng.integers(0, rows, size=count)))
    tail = {"gradient_scale": [1.0, 0.5, 2.0, 1.5, 1.0]}
    tail["weight_decay"] = [0.0, 0.1, 0.2, 0.3, 0.0]
    for mode in ("lazy", "dense"):
        states = [State(*a) for a in arrays]
        native.sparse_apply(
            rule=case.rule,
            var=[s.var.array for s in states],
            slots={
                slot.name: [s.slots[slot.name].array for s in states]
                for slot in case.slots
            },
            grad=[s.grad.array for s in states],
            indices=[s.indices.array for s in states],
            hyper=case.op_hyper(ITERATIONS),
            flags=case.flags,
            learning_rate=LEARNING_RATE,
            iterations=ITERATIONS,
            mode=mode,
            threads=2,
            **tail,
        )
        for i, (state, arguments) in enumerate(zip(states, arrays, strict=True)):
            alone = State(*arguments)
            alone.run(case, mode=mode, **{k: [v[i]] for k, v in tail.items()})
            assert_same(state.result(), alone.result(), f"variable {i}, {mode}")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_sparse_is_the_reference_for_any_ids(data):
    case = data.draw(st.sampled_from(cases.CASES), label="case")
    dtype = data.draw(st.sampled_from(cases.DTYPES), label="dtype")
    index_dtype = data.draw(st.sampled_from(cases.INDEX_DTYPES), label="indices")
    mode = data.draw(st.sampled_from(["lazy", "dense"]), label="mode")
    rows = data.draw(st.integers(1, 40), label="rows")
    width = data.draw(st.integers(1, 40), label="width")
    ids = data.draw(st.lists(st.integers(0, rows - 1), max_size=60), label="ids")
    seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
    arrays = rows_of(case, np.random.default_rng(seed), rows, width, dtype, ids)
    check_sparse(case, *arrays, np.array(ids, index_dtype), mode)


@every_case
def test_every_isa_gives_the_same_bits_on_sparse_rows(case):
    rng = np.random.default_rng(6)
    for dtype in cases.DTYPES:
        for width in (1, 3, 16, 33, 70):
            var, slots, _ = numerics.draw(rng, case, (50, width), dtype)
            _, _, grad = numerics.draw(rng, case, (80, width), dtype)
            grad[7], grad[11, 0] = np.nan, np.inf
            indices = rng.integers(0, 50, size=80)
            expected = None
            for isa in ISAS:
                state = State(var, slots, grad, indices).run(case, isa=isa)
                expected = expected or state.result()
                assert_same(state.result(), expected, f"{isa}, width {width}")


@pytest.mark.parametrize("mode", ["lazy", "dense"])
@pytest.mark.parametrize("bad", [-1, 10, 2**31 - 1, -(2**31)])
def test_native_indices_out_of_range_write_nothing(bad, mode):
    case = cases.RICHEST[0]
    ids = np.array([0, 1, 2, 3, 4, bad], np.int32)
    arrays = rows_of(case, np.random.default_rng(0), 10, 3, "float32", ids)
    state = State(*arrays, ids)
    before = {key: value.copy() for key, value in state.result().items()}
    with pytest.raises((ValueError, IndexError)) as error:
        state.run(case, mode=mode)
    assert f"indices[5] of var[0] must be in [0, 10). Received: {bad}." in str(
        error.value
    )
    assert_same(state.result(), before, "written before the error")
