"""sparse_update="exact": gradients of rows that other steps, branches or XLA part from
the read that they are of."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import models
from tests.exact_reading_test import RTOL, table_and_step
from tests.marks import both_flavours

pytestmark = both_flavours


def step_on(optimizer, table, *ids):
    """A step whose gradient is not that of rows which were looked up."""
    gradient = models.slices(list(ids), tf.ones([len(ids), 2]), 10)
    optimizer.apply_gradients([(gradient, table)])


def test_a_row_that_was_read_before_it_was_up_to_date():
    states = []
    for fails in (True, False):
        table, optimizer, _ = table_and_step()
        tf_optim.prepare(table)
        for _ in range(3):
            step_on(optimizer, table, 2, 3)
        if fails:
            with pytest.raises(
                tf.errors.FailedPreconditionError,
                match="Row 5 of table 0 must be up to date",
            ):
                step_on(optimizer, table, 5, 0)
        assert int(optimizer.iterations) == 3
        tf_optim.lookup(table, [5, 0])
        step_on(optimizer, table, 5, 0)
        states.append([table.numpy(), *(v.numpy() for v in optimizer.variables)])
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("steps", [63, 64])
def test_a_read_is_good_for_a_number_of_steps(steps):
    """Whoever steps on the row later has read the table by means of his own."""
    table, optimizer, _ = table_and_step()
    tf_optim.lookup(table, [5])
    for _ in range(steps):
        step_on(optimizer, table, 1)
    if steps == 64:
        with pytest.raises(tf.errors.FailedPreconditionError, match="Row 5 of table 0"):
            step_on(optimizer, table, 5)
    else:
        step_on(optimizer, table, 5)


def test_gradients_that_come_late():
    """Of rows that were read before other steps and other reads, as in threads."""
    results = []
    for mode in ("exact", "dense"):
        table, optimizer, _ = table_and_step(mode)
        waiting = []
        for i in range(12):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf_optim.lookup(table, [i % 10, 3 * i % 10]) ** 2)
            waiting.append(tape.gradient(loss, table))
            if i % 4 == 3:
                while waiting:
                    optimizer.apply_gradients(
                        [(waiting.pop(0 if i % 3 else -1), table)]
                    )
                    tf_optim.lookup(table, [i % 7])
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("name", ["Adam", "RMSprop"])
def test_gradients_of_one_tape_in_several_steps(name):
    """The second step's rows were read before the first one; another optimizer too."""
    results = []
    for mode in ("exact", "dense"):
        table, optimizer, _ = table_and_step(mode)
        other = getattr(tf_optim, name)(0.1, sparse_update=mode)
        if name == "Adam":
            other = optimizer

        @tf.function
        def step(ids, table=table, optimizer=optimizer, other=other):
            with tf.GradientTape(persistent=True) as tape:
                one, two, three = (
                    tf.reduce_sum(tf_optim.lookup(table, ids + i) ** 2)
                    for i in (0, 4, 1)
                )
            for taker, loss in ((optimizer, one), (other, two), (optimizer, three)):
                taker.apply_gradients([(tape.gradient(loss, table), table)])

        optimizer.build([table])
        other.build([table])
        for i in range(5):
            step(tf.constant([i, i]))
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("mode", ["exact", "eventual"])
def test_a_function_that_is_given_tables(mode):
    """One function for several tables, each of which has a history."""
    results = []
    for each in (mode, "dense"):
        tables = [tf.Variable(tf.ones([10, 2])) for _ in range(2)]
        optimizer = tf_optim.Adam(0.1, sparse_update=each)
        optimizer.build(tables)
        for table in tables:
            tf_optim.prepare(table)
        read = tf.function(lambda table, ids: tf.gather(table, ids))
        for table in tables:
            read(table, tf.range(10))

        @tf.function
        def step(table, ids, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.gather(table, ids) ** 2)
            optimizer.apply_gradients([(tape.gradient(loss, table), table)])

        for i in range(6):
            step(tables[i % 2], tf.constant([i, 1]))
        results.append([read(table, tf.range(10)) for table in tables])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=RTOL, atol=RTOL)


def test_rows_that_xla_reads_as_they_are():
    """Of a layer's table, which is not asked about reads otherwise."""
    layer = tf_optim.Embedding(10, 2, embeddings_initializer="ones")
    layer.build((None,))
    (table,) = layer.trainable_variables
    optimizer = tf_optim.Adam(0.1, sparse_update="exact")
    optimizer.build([table])

    @tf.function(jit_compile=True)
    def gradient(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(ids) ** 2)
        found = tape.gradient(loss, layer.trainable_variables[0])
        return found.values, found.indices

    def step(*ids):
        values, indices = gradient(tf.constant(ids))
        found = tf.IndexedSlices(values, indices, tf.constant([10, 2]))
        optimizer.apply_gradients([(found, table)])

    step(1)
    with pytest.raises(tf.errors.FailedPreconditionError, match="Row 2 of table 0"):
        step(2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_branch_that_is_not_taken(dtype):
    """Its gradient names all rows, none of which was looked up, and is 0."""
    results = []
    for mode in ("exact", "dense"):
        tables = [tf.Variable(tf.ones([9, 2], dtype)) for _ in range(2)]
        optimizer = tf_optim.Adam(0.1, sparse_update=mode)
        if mode == "exact":
            for table in tables:
                tf_optim.prepare(table)

        @tf.function
        def step(i, ids, tables=tables, optimizer=optimizer):
            def loss(one):
                return tf.reduce_sum(tf.gather(one, ids) ** 2)

            with tf.GradientTape() as tape:
                total = tf.cond(
                    i % 3 == 0, lambda: loss(tables[0]), lambda: -loss(tables[1])
                )
            gradients = tape.gradient(total, tables)
            optimizer.apply_gradients(zip(gradients, tables, strict=True))

        optimizer.build(tables)
        for i in range(7):
            step(tf.constant(i), tf.constant([i, i + 2]))
        results.append([table.numpy() for table in tables])
    for one, other in zip(*results, strict=True):
        rtol = 2e-3 if dtype == "float16" else RTOL
        np.testing.assert_allclose(one, other, rtol=rtol)
