"""The ops of sparse_update="exact": what they refuse, and what they read."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models, numerics
from tests.marks import kinds
from tests.raw_ops import Variables
from tf_optim import library, prepared

ADAM = next(c for c in cases.CASES if c.name == "Adam" and not c.arguments)
ROWS = 10


def two_tables():
    rng = np.random.default_rng(0)
    arrays = [numerics.draw(rng, ADAM, (ROWS, 3), "float32") for _ in range(2)]
    variables = Variables(ADAM, [each[:2] for each in arrays])
    ids = [tf.constant([0, 1]), tf.constant([1, 2])]
    return variables, [tf.ones([2, 3])] * 2, ids


def histories(count):
    return [library.ops().tf_optim_row_history() for _ in range(count)]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (
            lambda variables: {"history": []},
            tf.errors.InvalidArgumentError,
            "history must have a handle for each variable in mode .* Received: none",
        ),
        (
            lambda variables: {"history": histories(1)},
            tf.errors.InvalidArgumentError,
            r"history must have as many handles as there are variables \(2\) or none. "
            "Received: 1",
        ),
        (
            lambda variables: {"history": histories(1) * 2},
            tf.errors.InvalidArgumentError,
            "Each history must be that of one table. Received: one of two",
        ),
        (
            lambda variables: {"history": [v.handle for v in variables.var]},
            tf.errors.FailedPreconditionError,
            "history must be that of a prepared table. Received: .* which is none",
        ),
    ],
    ids=["none", "one", "twice", "variables"],
)
def test_wrong_histories_change_nothing(given, error, said):
    variables, rows, ids = two_tables()
    before = variables.bytes()
    with pytest.raises(error, match=said):
        variables.sparse_apply(rows, ids, mode="exact", **given(variables))
    assert variables.bytes() == before
    variables.sparse_apply(rows, ids, mode="exact", history=histories(2))
    assert variables.bytes() != before


def test_averages_by_row_are_those_of_lazy_steps():
    variables, rows, ids = two_tables()
    seen = [tf.Variable(tf.zeros([ROWS], tf.int32)).handle for _ in range(2)]
    average = [tf.Variable(v).handle for v in variables.var]
    averages = {"average": average, "average_rows": seen}
    with pytest.raises(tf.errors.InvalidArgumentError, match="average_rows must have"):
        variables.sparse_apply(
            rows, ids, mode="exact", history=histories(2), **averages
        )


def stepped(case, **arguments):
    """A table with rows that lie behind by different numbers of steps."""
    start = np.random.default_rng(1).normal(size=(ROWS, 5))
    table = tf.Variable(start.astype("float32"))
    tf_optim.prepare(table)
    optimizer = models.ours(case, sparse_update="eventual", **arguments)
    for ids in ([0, 1, 2], [2, 3, 3], [4], [1, 0]):
        rows = tf.fill([len(ids), 5], 0.25)
        gradient = tf.IndexedSlices(rows, tf.constant(ids), (ROWS, 5))
        optimizer.apply_gradients([(gradient, table)])
    return table, optimizer


def looked_up(table, ids):
    return library.ops().tf_optim_lookup_rows(
        history=prepared.history_of(table),
        var=table.handle,
        indices=tf.convert_to_tensor(ids),
        T=table.dtype,
    )


@kinds
@pytest.mark.parametrize("ema", [False, True], ids=["", "ema"])
def test_a_lookup_reads_what_catching_up_would_write(case, ema):
    """Bit for bit, repeated ids too, and writes nothing."""
    if not case.is_exact:
        pytest.skip("its steps need the norm of the whole table")
    table, optimizer = stepped(case, use_ema=ema)
    ids = [[0, 2, 2], [3, 9, 4]]
    rows = looked_up(table, ids).numpy()
    again = looked_up(table, ids).numpy()
    np.testing.assert_array_equal(rows, again)
    assert rows.shape == (2, 3, 5)
    np.testing.assert_array_equal(rows, tf.gather(table, ids).numpy())
    optimizer.catch_up()
    np.testing.assert_array_equal(rows, looked_up(table, ids).numpy())


def test_a_lookup_of_many_rows():
    """More than are worked on together, on several threads."""
    table = tf.Variable(tf.random.stateless_normal([3000, 16], [1, 2]))
    tf_optim.prepare(table)
    optimizer = tf_optim.Adam(0.1, sparse_update="eventual")
    for step in range(5):
        ids = tf.range(step * 500, 1000 + step * 500)
        gradient = tf.IndexedSlices(tf.ones([1000, 16]), ids, (3000, 16))
        optimizer.apply_gradients([(gradient, table)])
    ids = np.random.default_rng(0).integers(3000, size=5000)
    rows = looked_up(table, ids).numpy()
    np.testing.assert_array_equal(rows, table.numpy()[ids])


def test_the_gradient_of_a_lookup_is_of_its_rows():
    table, _ = stepped(ADAM)
    factors = tf.reshape(tf.range(10.0), [2, 5])
    with tf.GradientTape() as tape:
        tape.watch(table.handle)
        loss = tf.reduce_sum(factors * looked_up(table, [7, 7]))
    gradient = tape.gradient(loss, table.handle)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, [7, 7])
    np.testing.assert_array_equal(gradient.values, factors)


@pytest.mark.parametrize("bad", [-1, ROWS])
def test_a_lookup_outside_of_the_table(bad):
    table, _ = stepped(ADAM)
    said = rf"indices must be in \[0, {ROWS}\)"
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        looked_up(table, [0, bad])


def test_a_lookup_has_the_shape_of_its_rows_in_a_graph():
    table, _ = stepped(ADAM)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int64)])
    def in_graph(ids):
        rows = looked_up(table, ids)
        assert rows.shape.as_list() == [None, 3, 5]
        return rows

    assert in_graph(tf.zeros([2, 3], tf.int64)).shape == (2, 3, 5)


def test_what_cannot_be_prepared():
    for given in ("a table", tf.Module(), None):
        for function in (tf_optim.prepare, tf_optim.unprepare):
            with pytest.raises(ValueError, match="`model` must be a model or layer"):
                function(given)
