"""The ops that add rows up over several steps, beside NumPy's `add.at`."""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, models
from tests.marks import every_index_dtype, keras_3_only
from tf_optim import library

ROWS, WIDTH = 40, 5
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
ways = pytest.mark.parametrize("keeps", [True, False], ids=["kept", "added"])


class Sums:
    """Accumulators, what belongs to them, and the sums that they should hold."""

    def __init__(self, dtype, keeps=True, rows=(ROWS, 3)):
        self.dtype = dtype
        self.tables = [tf.Variable(tf.zeros([n, WIDTH], dtype)) for n in rows]
        self.touched = [
            tf.Variable(tf.constant([0, 0, 0, keeps], tf.int64), shape=[None])
            for _ in rows
        ]
        self.kept = [
            tf.Variable(tf.zeros([0, WIDTH], dtype), shape=[None, WIDTH]) for _ in rows
        ]
        self.sums = [np.zeros((n, WIDTH), dtype) for n in rows]
        self.iterations = 0
        self.rng = np.random.default_rng(0)

    def draw(self, count=30):
        ids = [self.rng.integers(0, len(sums), size=count) for sums in self.sums]
        # Sums of these are exact, in whatever order.
        grads = [self.rng.integers(-9, 9, (count, WIDTH)) / 4 for _ in ids]
        return ids, [grad.astype(self.dtype) for grad in grads]

    def variables(self):
        return {
            "accumulator": [table.handle for table in self.tables],
            "touched": [touched.handle for touched in self.touched],
            "kept": [kept.handle for kept in self.kept],
        }

    def inputs(self, ids, grads):
        return {
            **self.variables(),
            "grad": [tf.constant(grad) for grad in grads],
            "indices": [tf.constant(i, tf.int64) for i in ids],
            "iterations": tf.constant(self.iterations, tf.int64),
        }

    def add(self, ids, grads):
        library.ops().tf_optim_accumulate_rows(**self.inputs(ids, grads))
        for sums, i, grad in zip(self.sums, ids, grads, strict=True):
            np.add.at(sums, i, grad)
        self.iterations += 1

    def add_kept(self):
        library.ops().tf_optim_add_kept_rows(**self.variables(), T=self.dtype)

    def clear(self, rows):
        library.ops().tf_optim_clear_accumulated_rows(
            rows=rows,
            iterations=tf.constant(self.iterations, tf.int64),
            T=self.dtype,
            **self.variables(),
        )

    def check(self):
        """Accumulators and what is kept are the sums; what is kept stays so."""
        for i, sums in enumerate(self.sums):
            found = self.tables[i].numpy().copy()
            rows = self.remembered(i)[1]
            kept = int(self.touched[i][2])
            np.add.at(found, rows[len(rows) - kept :], self.kept[i].numpy()[:kept])
            np.testing.assert_array_equal(found, sums)

    def totals(self, ids, grads):
        return library.ops().tf_optim_accumulated_rows(**self.inputs(ids, grads))

    def remembered(self, i):
        step, count, _, _, *ids = self.touched[i].numpy()
        return step, ids[:count]


@ways
@dtypes
def test_gradients_add_up_and_their_rows_are_remembered(dtype, keeps):
    sums, named, added = Sums(dtype, keeps), set(), 0
    for count in (3, 0, 8, 30, 100, 1):
        ids, grads = sums.draw(count)
        named |= set(ids[0])
        sums.add(ids, grads)
        sums.check()
        step, rows = sums.remembered(0)
        assert (step, set(rows)) == (sums.iterations, named)
        # Half as many as the table has rows are kept, and none after more.
        added += count
        assert sums.touched[0][2] == (added if keeps and added <= ROWS / 2 else 0)
    sums.add_kept()
    for table, whole in zip(sums.tables, sums.sums, strict=True):
        np.testing.assert_array_equal(table, whole)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("counts", [(4, 0, 7), (30, 0, 30), (4, 4, 30)])
@ways
@dtypes
def test_totals_are_of_named_rows(dtype, keeps, counts, known):
    sums = Sums(dtype, keeps)
    *added, last = [sums.draw(count) for count in counts]
    if not known:
        for touched in sums.touched:
            touched.assign([7, 0, 0, keeps])  # of some other step
    for each in added:
        sums.add(*each)
    rows, totals = sums.totals(*last)
    all_kept = keeps and known and sum(counts) <= ROWS / 2
    for i, (row, total) in enumerate(zip(rows, totals, strict=True)):
        whole = sums.sums[i].copy()
        np.add.at(whole, last[0][i], last[1][i])
        named = {*last[0][i]}
        if known:
            named = named.union(*(ids[i] for ids, _ in added))
        else:  # those whose sums are not zero
            named |= set(np.flatnonzero(sums.sums[i].any(axis=1)))
            assert sums.remembered(i)[0] == -1
        if all_kept and i == 0:
            ids = np.concatenate([ids[i] for ids, _ in (*added, last)])
            np.testing.assert_array_equal(row, ids)
        else:
            assert list(row) == sorted(named)
        found = np.zeros_like(whole)
        np.add.at(found, row, total)
        np.testing.assert_array_equal(found[sorted(named)], whole[sorted(named)])
    sums.check()  # no sum has changed
    again = sums.totals(*last)
    for left, right in zip((*rows, *totals), (*again[0], *again[1]), strict=True):
        np.testing.assert_array_equal(left, right)


@ways
@dtypes
def test_clearing_leaves_no_row(dtype, keeps):
    sums = Sums(dtype, keeps)
    for count in (4, 60):
        first = sums.draw(count)
        sums.add(*first)
        last = sums.draw(count)
        rows, _ = sums.totals(*last)
        sums.clear(rows)
        for whole in sums.sums:
            whole[:] = 0
        sums.check()
        assert sums.remembered(0) == (sums.iterations + 1, [])
        sums.iterations += 1
    sums.tables[0].assign_add(tf.ones([ROWS, WIDTH], dtype))
    library.ops().tf_optim_clear_accumulators(
        accumulator=[table.handle for table in sums.tables], T=dtype
    )
    assert not any(table.numpy().any() for table in sums.tables)


def test_totals_stay_what_they_are_while_the_next_window_is_kept():
    sums = Sums("float32")
    _, totals = sums.totals(*sums.draw(4))
    copies = [total.numpy().copy() for total in totals]
    sums.clear([tf.zeros([0], tf.int64)] * 2)
    sums.iterations += 1
    sums.add(*sums.draw(8))
    for total, copy in zip(totals, copies, strict=True):
        np.testing.assert_array_equal(total, copy)


def test_a_value_that_was_read_stays_what_it_is():
    sums = Sums("float32")
    sums.add(*sums.draw())
    read = [each[0].read_value() for each in (sums.tables, sums.touched, sums.kept)]
    copies = [value.numpy().copy() for value in read]
    sums.add(*sums.draw())
    library.ops().tf_optim_clear_accumulators(
        accumulator=[sums.tables[0].handle], T=tf.float32
    )
    for value, copy in zip(read, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


def test_an_error_comes_before_the_first_write():
    sums = Sums("float32")
    sums.add(*sums.draw())
    before = sums.remembered(0)
    ids, grads = sums.draw()
    wrong = [ids[0], ids[1].copy()]
    wrong[1][4] = 3
    message = r"indices\[4\] of var\[1\] must be in \[0, 3\). Received: 3"
    for call in (sums.add, sums.totals):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call(wrong, grads)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have shape"):
        sums.add(ids, [grads[0], grads[1][:, :2]])
    right = sums.touched[1].read_value()
    for wrong in ([0, 9], [0, 9, 0, 1], [0, 1, 2, 1, 0, 0]):
        sums.touched[1].assign(wrong)
        with pytest.raises(tf.errors.FailedPreconditionError, match=r"touched\[1\]"):
            sums.add(ids, grads)
    sums.touched[1].assign([1, 1, 1, 1, 0])
    with pytest.raises(tf.errors.FailedPreconditionError, match=r"kept\[1\]"):
        sums.add(ids, grads)
    sums.touched[1].assign(right)
    sums.check()
    assert sums.remembered(0) == before


@keras_3_only
@every_index_dtype
def test_a_window_of_many_tables_takes_three_ops(index_dtype):
    tables = models.variables(((7, 2), (5, 3), (9, 2)))
    optimizer = models.ours(cases.A_FEW[0], gradient_accumulation_steps=2)
    optimizer.build(tables)

    @tf.function
    def step(ids):
        grads = [
            models.slices(tf.cast(ids, index_dtype), tf.ones([2, t.shape[1]]), len(t))
            for t in tables
        ]
        optimizer.apply_gradients(zip(grads, tables, strict=True))

    step(tf.constant([1, 4]))
    graph = step.get_concrete_function(tf.constant([1, 4])).graph
    graphs = [graph, *(each.graph for each in graph._functions.values())]
    ops = [op.type for each in graphs for op in each.get_operations()]
    ours = [op for op in ops if "ccumulat" in op]
    assert sorted(ours) == [
        "TfOptim>AccumulateRows",
        "TfOptim>AccumulatedRows",
        "TfOptim>ClearAccumulatedRows",
    ]
    assert "Unique" not in ops
