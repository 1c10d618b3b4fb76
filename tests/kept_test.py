"""Gradients of a window that are kept beside their accumulator, and who looks at it."""

import threading

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases
from tests.accumulation_test import (
    KEPT,
    ROWS,
    STEPS,
    accumulating,
    assert_close,
    assert_same_bits,
    draw_window,
)
from tests.marks import a_few, both_ways, keras_3_only

pytestmark = keras_3_only


def kept_by(training):
    """How many gradients of the table are kept beside its accumulator."""
    return int(training.optimizer._kept_rows.get((0, 0)).rows[2])


@both_ways
@a_few
def test_gradients_are_kept_while_there_are_few(case, graph):
    """Until somebody looks at the accumulator, which then holds their sum."""
    rng = np.random.default_rng(9)
    training = accumulating(case, how="function" if graph else "eager")
    for _ in range(2):
        (ids, values, bias), *rest = draw_window(rng, KEPT)
        training.step(ids, values, bias)
        assert kept_by(training) == len(ids)
        expected = np.zeros((ROWS, 6), "float32")
        np.add.at(expected, ids, values.numpy())
        np.testing.assert_array_equal(training.accumulators()[0], expected)
        assert kept_by(training) == 0
        training.window(rest)
    training.step(*draw_window(rng, KEPT)[3])
    training.step(*draw_window(rng, KEPT)[3])
    assert kept_by(training) == 6
    training.step(*draw_window(rng, KEPT)[0])
    assert kept_by(training) == 0  # all are added


@pytest.mark.parametrize("name", ["scatter_add", "batch", "function"])
@a_few
def test_who_sets_some_of_an_accumulator_adds_to_what_is_kept(case, name):
    window = draw_window(np.random.default_rng(10), KEPT)
    results = []
    for counts in range(2):
        training = accumulating(case)
        accumulator = training.optimizer._accumulated_gradients[0].value
        if counts:  # nothing is kept from the first step on
            training.optimizer._kept_rows.keep_nothing((0, 0))
        training.window(window[:3])
        rows = tf.IndexedSlices(tf.ones([2, 6]), tf.constant([3, 7]))
        if name == "scatter_add":
            accumulator.scatter_add(rows)
        elif name == "batch":
            accumulator.scatter_nd_add([[3], [7]], rows.values)
        else:
            tf.function(lambda a=accumulator, r=rows: a.scatter_add(r))()
        training.window(window[3:])
        results.append(training.values())
    assert_same_bits(*results)


@a_few
def test_from_a_function_to_one_under_xla_within_a_window(case):
    """What the first has kept, the second finds in the accumulator."""
    window = draw_window(np.random.default_rng(11), (1, 1, 1, 1))
    mixed, plain = accumulating(case), accumulating(case)
    compiled = tf.function(mixed._apply_eagerly, jit_compile=True)
    for _ in range(3):
        for i, (step, expected) in enumerate(zip(window, window, strict=True)):
            if i % 2:
                compiled(tf.constant(step[0]), *step[1:])
            else:
                mixed.step(*step)
            plain.step(*expected)
    assert_close(mixed.values(), plain.values(), rtol=1e-5, atol=1e-6)


@a_few
def test_a_table_without_a_gradient_at_the_end_of_a_window(case):
    """As in stock, what it had of the window is dropped."""
    window = draw_window(np.random.default_rng(13), KEPT)
    training = accumulating(case).window(window[:3])
    before = training.variables[0].numpy()
    table, bias = training.variables
    training.optimizer.apply_gradients([(tf.ones([6]), bias)])
    np.testing.assert_array_equal(table, before)
    training.window([(np.array([2]), tf.ones([1, 6]), tf.ones([6]))] * STEPS)
    changed = np.flatnonzero((table.numpy() != before).any(axis=1))
    assert list(changed) == [2]


def looked_at_by_a_checkpoint(optimizer):
    tf.train.Checkpoint(optimizer)


def given_a_list(optimizer):
    optimizer.note = ["a list, which Keras tracks"]


def told_to_forget(optimizer):
    optimizer.forget_touched_rows()


LOOKS = (looked_at_by_a_checkpoint, given_a_list, told_to_forget)


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_is_lost_where_no_accumulator_has_changed(look):
    window = draw_window(np.random.default_rng(14), KEPT)
    training, plain = (accumulating(cases.RICHEST[0]) for _ in range(2))
    for step in window:
        training.step(*step)
        plain.step(*step)
        look(training.optimizer)
    assert_same_bits(training.values(), plain.values())


@pytest.mark.parametrize("jit", [False, True], ids=["function", "jit"])
@pytest.mark.parametrize("end_first", [False, True])
@pytest.mark.parametrize("end_has", ["a dense gradient", "no gradient"])
def test_functions_that_were_traced_in_any_order(end_has, end_first, jit):
    """One has a sparse gradient for the table, and one ends the window."""
    table, bias = tf.Variable(tf.ones([12, 3])), tf.Variable(tf.ones([3]))
    optimizer = tf_optim.SGD(1.0, gradient_accumulation_steps=2)
    optimizer.build([table, bias])
    of_rows = tf.IndexedSlices(tf.ones([1, 3]), tf.constant([1]), tf.constant([12, 3]))
    last = tf.zeros([12, 3]) if end_has == "a dense gradient" else None

    def step(gradient):
        optimizer.apply([gradient, tf.ones([3])], [table, bias])

    begin = tf.function(lambda: step(of_rows))
    end = tf.function(lambda: step(last), jit_compile=jit)
    for function in (end, begin) if end_first else (begin, end):
        function.get_concrete_function()
    found = []
    for function in (begin, end, begin, begin):
        function()
        found.append(float(table[1, 0]))
    # Stock drops what a table had where the last step has no gradient for it.
    expected = [0.5, -0.5] if last is not None else [1.0, 0.0]
    assert [found[1], found[3]] == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_the_sum_of_a_window_need_not_fit_into_16_bits(dtype, sparse):
    """Nor is it rounded to them: the mean is."""
    for values, mean in (([30000.0] * 4, 30000.0), ([2048.0, 1.0, 1.0, 1.0], 512.75)):
        variable = tf.Variable(tf.zeros([12, 3], dtype))
        optimizer = tf_optim.SGD(1.0, gradient_accumulation_steps=4)
        optimizer.build([variable])
        for value in values:
            rows = tf.fill([1, 3], tf.constant(value, dtype))
            gradient = tf.IndexedSlices(rows, tf.constant([1]), tf.constant([12, 3]))
            gradient = gradient if sparse else tf.convert_to_tensor(gradient)
            optimizer.apply([gradient], [variable])
        expected = -tf.cast(mean, dtype)
        assert float(variable[1, 0]) == float(expected)
        assert not sparse or optimizer._kept_rows.get((0, 0)).rows[3] == 0


@pytest.mark.parametrize(
    "clip", [{"clipvalue": 0.5}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}], ids=str
)
def test_a_subclass_is_given_each_row_once(clip):
    class Own(tf_optim.SGD):
        def update_step(self, gradient, variable, learning_rate):
            if isinstance(gradient, tf.IndexedSlices):
                assert len({*gradient.indices.numpy()}) == len(gradient.indices)
            super().update_step(gradient, variable, learning_rate)

    results = []
    for cls in (Own, tf_optim.SGD):
        table = tf.Variable(tf.ones([12, 1]))
        optimizer = cls(1.0, gradient_accumulation_steps=2, **clip)
        optimizer.build([table])
        for value in (4.0, -3.0):
            rows = tf.constant([[value]])
            slices = tf.IndexedSlices(rows, tf.constant([1]), tf.constant([12, 1]))
            optimizer.apply([slices], [table])
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_two_threads_take_the_first_step():
    for _ in range(5):
        training = accumulating(cases.RICHEST[0])
        steps = [(np.array([i]), tf.ones([1, 6]), tf.ones([6])) for i in (1, 2)]
        running = [threading.Thread(target=training.step, args=each) for each in steps]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        sums = training.accumulators()[0]
        assert sums[1].all() and sums[2].all() and not np.delete(sums, [1, 2], 0).any()


def test_what_is_kept_takes_half_of_the_table_at_most():
    table = tf.Variable(tf.ones([400, 3]))
    optimizer = tf_optim.SGD(1.0, gradient_accumulation_steps=4)
    optimizer.build([table])
    for count in (10, 90, 100):
        slices = tf.IndexedSlices(tf.ones([count, 3]), tf.range(count), [400, 3])
        optimizer.apply([slices], [table])
    kept = optimizer._kept_rows.get((0, 0))
    assert [int(kept.rows[2]), *tf.shape(kept.gradients).numpy()] == [200, 200, 3]


def test_a_compiled_function_that_reads_an_accumulator():
    training = accumulating(cases.RICHEST[0])
    training.step(np.array([1]), tf.ones([1, 6]), tf.ones([6]))
    accumulator = training.optimizer._accumulated_gradients[0].value
    total = tf.function(lambda: tf.reduce_sum(accumulator), jit_compile=True)
    assert total() == 6
    training.step(np.array([2]), tf.ones([1, 6]), tf.ones([6]))
    assert total() == 12


@pytest.mark.parametrize("through", ["checkpoint", "get_weights", "keras"])
@pytest.mark.parametrize("jit", [False, True], ids=["ops", "jit"])
def test_a_row_that_is_named_without_a_gradient_is_named_in_a_checkpoint(
    jit, through, tmp_path
):
    """Its momentum moves it at the end of the window, resumed or not."""

    def new():
        layer = tf.keras.layers.Embedding(40, 3)
        layer.build(None)
        layer.embeddings.assign(tf.ones([40, 3]))
        optimizer = tf_optim.Adam(0.1, gradient_accumulation_steps=2)
        optimizer.build([layer.embeddings])
        return layer.embeddings, optimizer

    def stepped(table, optimizer, ids, gradients):
        @tf.function(jit_compile=jit)
        def step(values):
            slices = tf.IndexedSlices(values, tf.constant(ids), [40, 3])
            optimizer.apply([slices], [table])

        step(tf.tile(tf.constant(gradients)[:, None], [1, 3]))

    results = []
    for resumes in (False, True):
        table, optimizer = new()
        stepped(table, optimizer, [1, 2, 4], [1.0, 1.0, 1.0])
        stepped(table, optimizer, [1, 2, 4], [1.0, 1.0, 1.0])
        # Of no gradient, of gradients that cancel out, of one.
        stepped(table, optimizer, [1, 2, 2, 4], [0.0, 1.0, -1.0, 1.0])
        if resumes:
            before, (table, optimizer) = (table, optimizer), new()
            if through == "checkpoint":
                saved = tf.train.Checkpoint(table=before[0].value, o=before[1])
                path = saved.write(str(tmp_path / "c"))
                tf.train.Checkpoint(table=table.value, o=optimizer).read(path)
            else:
                table.assign(before[0])
                store = {}
                before[1].save_own_variables(store)
                if through == "get_weights":
                    optimizer.set_weights(before[1].get_weights())
                else:
                    optimizer.load_own_variables(store)
        stepped(table, optimizer, [3], [1.0])
        results.append(table.numpy())
        assert np.all(table.numpy()[[1, 2, 4]] != table.numpy()[5])
    np.testing.assert_array_equal(*results)
    plain = results[0][1]
    assert np.all(plain < 0.85)  # two steps, not one
