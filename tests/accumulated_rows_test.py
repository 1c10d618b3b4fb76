"""The ops that add rows up over several steps, beside NumPy's `add.at`."""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, models
from tests.marks import every_index_dtype, keras_3_only
from tf_optim import library

ROWS, WIDTH = 40, 5
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


class Sums:
    """Accumulators, what they remember, and the sums that they should hold."""

    def __init__(self, dtype, rows=(ROWS, 3)):
        self.dtype = dtype
        self.tables = [tf.Variable(tf.zeros([n, WIDTH], dtype)) for n in rows]
        self.touched = [
            tf.Variable(tf.constant([0, 0], tf.int64), shape=[None]) for _ in rows
        ]
        self.sums = [np.zeros((n, WIDTH), dtype) for n in rows]
        self.iterations = 0
        self.rng = np.random.default_rng(0)

    def draw(self, count=30):
        ids = [self.rng.integers(0, len(sums), size=count) for sums in self.sums]
        # Sums of these are exact, in whatever order.
        grads = [self.rng.integers(-9, 9, (count, WIDTH)) / 4 for _ in ids]
        return ids, [grad.astype(self.dtype) for grad in grads]

    def inputs(self, ids, grads):
        return {
            "accumulator": [table.handle for table in self.tables],
            "touched": [touched.handle for touched in self.touched],
            "grad": [tf.constant(grad) for grad in grads],
            "indices": [tf.constant(i, tf.int64) for i in ids],
            "iterations": tf.constant(self.iterations, tf.int64),
        }

    def add(self, ids, grads):
        library.ops().tf_optim_accumulate_rows(**self.inputs(ids, grads))
        for sums, i, grad in zip(self.sums, ids, grads, strict=True):
            np.add.at(sums, i, grad)
        self.iterations += 1

    def check(self):
        for table, sums in zip(self.tables, self.sums, strict=True):
            np.testing.assert_array_equal(table.numpy(), sums)

    def means(self, ids, grads, steps):
        return library.ops().tf_optim_accumulated_rows(
            steps=steps, **self.inputs(ids, grads)
        )

    def remembered(self, i):
        step, count, *ids = self.touched[i].numpy()
        return step, ids[:count]


@dtypes
def test_gradients_add_up_and_their_rows_are_remembered(dtype):
    sums, named = Sums(dtype), set()
    for count in (3, 0, 30, 100):
        ids, grads = sums.draw(count)
        named |= set(ids[0])
        sums.add(ids, grads)
        sums.check()
        step, rows = sums.remembered(0)
        assert (step, set(rows)) == (sums.iterations, named)


@pytest.mark.parametrize("known", [True, False])
@dtypes
def test_means_are_of_named_rows_each_once(dtype, known):
    sums = Sums(dtype)
    added = [sums.draw() for _ in range(2)]
    if not known:
        for touched in sums.touched:
            touched.assign([7, 0])  # of some other step
    for each in added:
        sums.add(*each)
    last = sums.draw()
    rows, means = sums.means(*last, steps=3)
    for i, (row, mean) in enumerate(zip(rows, means, strict=True)):
        whole = sums.sums[i].copy()
        np.add.at(whole, last[0][i], last[1][i])
        named = {*last[0][i]}
        if known:
            named = named.union(*(ids[i] for ids, _ in added))
        else:  # those whose sums are not zero
            named |= set(np.flatnonzero(sums.sums[i].any(axis=1)))
            assert sums.remembered(i)[0] == -1
        assert list(row) == sorted(named)
        np.testing.assert_array_equal(mean, whole[row.numpy()] / np.array(3, dtype))
    sums.check()  # nothing has changed


@dtypes
def test_clearing_leaves_no_row(dtype):
    sums = Sums(dtype)
    sums.add(*sums.draw())
    last = sums.draw()
    rows, _ = sums.means(*last, steps=2)
    inputs = sums.inputs(*last)
    del inputs["grad"], inputs["indices"]
    library.ops().tf_optim_clear_accumulated_rows(rows=rows, T=dtype, **inputs)
    assert not any(table.numpy().any() for table in sums.tables)
    assert sums.remembered(0) == (sums.iterations + 1, [])
    sums.tables[0].assign_add(tf.ones([ROWS, WIDTH], dtype))
    library.ops().tf_optim_clear_accumulators(
        accumulator=inputs["accumulator"], T=dtype
    )
    assert not any(table.numpy().any() for table in sums.tables)


def test_a_value_that_was_read_stays_what_it_is():
    sums = Sums("float32")
    sums.add(*sums.draw())
    read = sums.tables[0].read_value(), sums.touched[0].read_value()
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
    for call in (sums.add, lambda *each: sums.means(*each, steps=2)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            call(wrong, grads)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have shape"):
        sums.add(ids, [grads[0], grads[1][:, :2]])
    sums.touched[1].assign([0, 9])
    with pytest.raises(tf.errors.FailedPreconditionError, match="touched"):
        sums.add(ids, grads)
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
            models.slices(tf.cast(ids, index_dtype), tf.ones([2, t.shape[1]]), 5)
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
