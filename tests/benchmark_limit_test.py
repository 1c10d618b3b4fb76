"""The benchmark's limit: it touches what a step has to touch, and nothing else."""

import dataclasses

import numpy as np
import pytest

from tests.benchmark_cases import DENSE, TABLE, TABLES, plain
from tf_optim import _native
from tf_optim.benchmark import cases, limits, traffic


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("distance", [0, 4])
def test_rows_are_changed_by_what_is_read(threads, distance):
    rng = np.random.default_rng(0)
    first, second, read = (
        rng.standard_normal((40, 16)).astype(np.float32) for _ in range(3)
    )
    gradient = rng.standard_normal((50, 16)).astype(np.float32)
    ids = rng.permutation(40)[:25]
    before = first.copy(), second.copy(), read.copy()
    counts = np.ones(40, np.float32)
    table = [first, second], [read], [counts], gradient, ids
    assert _native.limit_rows([[table]], threads, distance) > 0
    others = np.setdiff1d(np.arange(40), ids)
    np.testing.assert_array_equal(first[others], before[0][others])
    np.testing.assert_array_equal(second, before[1])  # times one
    np.testing.assert_array_equal(read, before[2])
    np.testing.assert_array_equal(counts, 1)
    # Which row of the gradient meets which row of the table does not matter.
    added = (first - before[0])[ids].sum(axis=0)
    expected = before[2][ids].sum(axis=0) + gradient.sum(axis=0)
    np.testing.assert_allclose(added, expected, rtol=1e-3, atol=1e-4)


def test_rows_without_a_gradient():
    first, read = np.zeros((9, 16), np.float32), np.ones((9, 16), np.float32)
    ids = np.array([7, 2])
    table = [first], [read], [], np.empty((0, 16), np.float32), ids
    _native.limit_rows([[table]])
    np.testing.assert_array_equal(np.unique(first.nonzero()[0]), [2, 7])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_steps_on_several_tables(threads):
    """Every table's rows and gradients, in every step, whoever takes them."""
    sizes = [(50, 30), (3, 30), (20, 1)]
    tables = [np.zeros((rows, 4), np.float32) for rows, _ in sizes]
    ids = [np.arange(min(rows, n)) for rows, n in sizes]
    grads = [np.ones((n, 4), np.float32) for _, n in sizes]
    step = [([t], [], [], g, i) for t, g, i in zip(tables, grads, ids, strict=True)]
    _native.limit_rows([step] * 3, threads)
    assert [table.sum() for table in tables] == [3 * 4 * n for _, n in sizes]
    for table, named in zip(tables, ids, strict=True):
        assert np.all(table[named] > 0) and np.all(np.delete(table, named, 0) == 0)


def test_rows_outside_of_a_table_are_refused():
    table, grad = np.zeros((5, 4), np.float32), np.zeros((1, 4), np.float32)
    ids = np.array([5])
    for arrays in (
        ([table], [], [], grad, ids),
        ([table], [], [table[:, 0]], grad, ids),
    ):
        with pytest.raises((ValueError, TypeError)):
            _native.limit_rows([[arrays]])
    short = np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"in \[0, 3\). Received: 4"):
        _native.limit_rows([[([table], [], [short], grad, np.array([4]))]])


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("block", "ahead"), [(1, 0), (7, 512), (100, 0), (4096, 16)])
def test_streams_are_added_once(block, ahead, backwards):
    written = [np.ones(1000, np.float32), np.ones(1000, np.float32)]
    read = [np.arange(1000, dtype=np.float32)]
    small = np.ones(3, np.float32)
    every = [(written, read), ([small], [np.full(3, 2, np.float32)])]
    assert _native.limit_dense([(backwards, every)], 2, block, 1, ahead) > 0
    np.testing.assert_array_equal(written[0], 1 + read[0])
    np.testing.assert_array_equal(written[1], 1)
    np.testing.assert_array_equal(small, 3)
    # Three steps of two passes.
    once = [(False, every[1:]), (True, every[1:])]
    _native.limit_dense(once, 2, block, 3, ahead)
    np.testing.assert_array_equal(small, 15)


def test_arrays_begin_with_a_cache_line():
    assert limits.ones(0, 5).shape == (0, 5)
    for shape in ((1,), (7, 3), (4096, 64)):
        array = limits.ones(*shape)
        assert array.shape == shape and array.ctypes.data % traffic.LINE == 0
        assert array.flags.c_contiguous and np.all(array == 1)


class Recorder:
    """Stands for the native module; keeps what it was called with."""

    def __init__(self):
        self.calls = []

    def limit_dense(self, passes, threads, block, steps, ahead):
        for backwards, variables in passes:
            sizes = [([a.size for a in w], [a.size for a in r]) for w, r in variables]
            self.calls.append((backwards, sizes))
        return float(steps)

    def limit_rows(self, passes, threads, distance):
        for tables in passes:
            self.calls.append(
                [(len(w), len(r), len(s), len(g), list(i)) for w, r, s, g, i in tables]
            )
        return float(len(passes))


def recorded(case, name, monkeypatch):
    """The calls of one step of the limit, and the seconds it answers."""
    limit = limits.Limit(plain(case, name), cases.Inputs(case))
    recorder = Recorder()
    monkeypatch.setattr(limit, "_native", recorder)
    return recorder.calls, limit.seconds()


def test_dense_passes(monkeypatch):
    """Each variable has arrays of its own."""
    calls, seconds = recorded(DENSE, "Adam", monkeypatch)
    assert calls == [(False, [([32] * 3, [32]), ([8] * 3, [8])])]
    assert seconds == 1
    calls, _ = recorded(DENSE, "RowWiseAdagrad", monkeypatch)
    assert calls == [(False, [([32, 8], [32]), ([8, 8], [8])])]
    calls, seconds = recorded(DENSE, "Lamb", monkeypatch)
    # Slots change while variable and gradient are read; then the variable.
    first = (False, [([32] * 2, [32] * 2), ([8] * 2, [8] * 2)])
    assert calls == [first, (True, [([32], [32] * 2), ([8], [8] * 2)])]


def test_passes_over_16_bit_variables(monkeypatch):
    # Half as many float32 are as many bytes; slots are in float32.
    case = dataclasses.replace(DENSE, dtype="bfloat16", shapes=((8, 5),))
    calls, _ = recorded(case, "Lamb", monkeypatch)
    assert calls == [
        (False, [([40] * 2, [20] * 2)]),
        (True, [([20], [40] * 2)]),
    ]


def test_row_passes(monkeypatch):
    calls, _ = recorded(TABLE, "Adam", monkeypatch)
    (((written, read, per_row, gradients, _),),) = calls
    assert (written, read, per_row, gradients) == (3, 0, 0, TABLE.ids)
    calls, _ = recorded(TABLES, "RowWiseAdagrad", monkeypatch)
    # The slot's line moves too.
    assert [table[:4] for table in calls[0]] == [(1, 0, 1, TABLES.ids)] * 2
    calls, seconds = recorded(TABLES, "Lamb", monkeypatch)
    first, second = calls
    assert [table[:4] for table in first] == [(2, 1, 0, TABLES.ids)] * 2
    assert [table[:4] for table in second] == [(1, 2, 0, 0)] * 2
    assert [t[4] for t in second] == [t[4][::-1] for t in reversed(first)]
    assert seconds == 2


def test_dense_variables_and_tables_of_one_step(monkeypatch):
    case = cases.Case(
        "mixed",
        "two tables, one variable",
        "own",
        ((64, 4), (8,), (9, 4)),
        each_dtype=("float32", "float32", "bfloat16"),
        each_ids=(12, 0, 3),
    )
    calls, seconds = recorded(case, "Adam", monkeypatch)
    dense, rows = calls
    assert dense == (False, [([8] * 3, [8])])
    # Rows of a table and of its slots are of two widths.
    assert [table[:4] for table in rows] == [(3, 0, 0, 12), (1, 0, 0, 3), (2, 0, 0, 0)]
    assert seconds == 2


def test_several_steps_are_made_in_one_call(monkeypatch):
    limit = limits.Limit(plain(TABLE, "Adam"), cases.Inputs(TABLE))
    recorder = Recorder()
    monkeypatch.setattr(limit, "_native", recorder)
    limit._steps = 5
    assert limit.seconds() == 1
    assert len(recorder.calls) == 5
    named = {tuple(sorted(call[0][-1])) for call in recorder.calls}
    assert len(named) == 5  # no batch twice in a row


def test_a_second_pass_begins_while_a_cache_holds_the_first():
    small, large = (1 << 20,), (8 << 20,)
    case = dataclasses.replace(DENSE, shapes=(small, small, large, *[small] * 4))
    # 12 bytes a number: two of them, then one that is too large, then two again.
    found = list(traffic.cached_together(case, range(7), 2))
    assert found == [[0, 1], [2], [3, 4], [5, 6]]
