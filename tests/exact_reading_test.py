"""sparse_update="exact": one table, in each way of reading and stepping it."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours
from tests.exact_state_test import RTOL, assert_same
from tests.marks import both_flavours, keras_3_only

pytestmark = both_flavours


def table_and_step(mode="exact", optimizer=tf_optim.Adam, jit=False):
    table = tf.Variable(np.linspace(-1, 1, 20).reshape(10, 2), dtype="float32")
    optimizer = optimizer(0.1, sparse_update=mode)
    optimizer.build([table])

    @tf.function(jit_compile=jit)
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf_optim.lookup(table, ids) ** 2)
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    return table, optimizer, step


def test_every_way_of_reading():
    reads = {
        "numpy": lambda t: t.numpy(),
        "value": lambda t: t.value(),
        "read_value": lambda t: t.read_value(),
        "convert": tf.convert_to_tensor,
        "function": tf.function(lambda t=None: tf.identity(t)),
        "gather": lambda t: tf.gather(t, tf.range(10)),
        "lookup": lambda t: tf.nn.embedding_lookup(t, tf.range(10)),
        "gather_nd": lambda t: tf.gather_nd(t, tf.range(10)[:, None]),
        "slice": lambda t: t[2:],
        "times": lambda t: 2 * t,
        "vectorized": lambda t: tf.vectorized_map(
            lambda ids: tf.gather(t, ids), tf.reshape(tf.range(10), [5, 2])
        ),
        "vectorized, the same rows": lambda t: tf.vectorized_map(
            lambda x: x * tf.gather(t, tf.range(10)), tf.ones([3])
        ),
        "vectorized, all of it": lambda t: tf.vectorized_map(
            lambda x: x * t, tf.ones([3])
        ),
    }
    for name, read in reads.items():
        got = []
        for mode in ("exact", "dense"):
            table, _, step = table_and_step(mode)
            for ids in ([0, 1], [2, 3], [0, 0], [9, 1]):
                step(tf.constant(ids))
            if name == "function":
                read = tf.function(lambda table=table: tf.identity(table))
                got.append(read().numpy())
            else:
                got.append(np.array(read(table)))
        np.testing.assert_allclose(*got, rtol=RTOL, atol=RTOL, err_msg=name)


@pytest.mark.parametrize("inner", [False, True], ids=["persistent", "nested"])
def test_a_loop_of_lookups_inside_of_a_tape_that_asks_for_more(inner):
    table = tf.Variable(np.arange(10.0).reshape(5, 2))
    tf_optim.prepare(table)

    def loss():
        def body(row, total):
            return row + 1, total + tf.reduce_sum(tf.gather(table, [row]) ** 3)

        start = tf.constant(0), tf.constant(0.0, tf.float64)
        return tf.while_loop(lambda row, _: row < 3, body, start)[1]

    @tf.function
    def gradient():
        with tf.GradientTape(persistent=not inner) as tape:
            value = loss()
            if inner:
                with tf.GradientTape() as nested:
                    value = loss()
                return tf.convert_to_tensor(nested.gradient(value, table))
        return tf.convert_to_tensor(tape.gradient(value, table))

    expected = 3 * np.arange(10.0).reshape(5, 2) ** 2
    expected[3:] = 0
    np.testing.assert_allclose(gradient(), expected)


def test_an_eager_op_that_is_given_the_table():
    """Such ops do not ask the variable, unless they have to."""

    def read(mode, op):
        table = tf.Variable(tf.ones([6, 4]))
        optimizer = tf_optim.Adam(0.1, sparse_update=mode)
        for row in (0, 0, 1):
            row = tf.constant([row])
            tf_optim.lookup(table, row)
            gradient = tf.IndexedSlices(tf.ones([1, 4]), row, tf.constant([6, 4]))
            optimizer.apply_gradients([(gradient, table)])
        return op(table)

    def gradient(table):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(table))
        return tape.gradient(loss, table)

    for op in (tf.square, tf.identity, lambda v: tf.reduce_sum(v, 1), gradient):
        assert_same([read("exact", op)], [read("dense", op)])


def test_under_jit_steps_are_dense_ones():
    results = []
    for mode, jit in (("exact", True), ("dense", False)):
        table, _, step = table_and_step(mode, jit=jit)
        for ids in ([0, 1], [2, 3], [0, 0], [9, 1]):
            step(tf.constant(ids))
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=RTOL, atol=RTOL)


def test_a_dense_gradient_of_a_prepared_table():
    results = []
    for mode in ("exact", "dense"):
        table, optimizer, step = table_and_step(mode)
        for i in range(6):
            step(tf.constant([i, i + 1]))
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.linalg.matmul(table, table, transpose_b=True))
            optimizer.apply_gradients([(tape.gradient(loss, table), table)])
        results.append(table.numpy())
    np.testing.assert_allclose(*results, rtol=RTOL, atol=RTOL)


def test_touched_rows():
    table, optimizer, step = table_and_step(optimizer=tf_optim.Adagrad)
    with pytest.raises(ValueError, match="must be one whose rows were updated"):
        optimizer.touched_rows(table, 0)
    copy = table.numpy()
    for ids in ([0, 1], [7, 7], [2, 3]):
        step(tf.constant(ids))
    assert optimizer.touched_rows(table, 0).numpy().tolist() == [0, 1, 2, 3, 7]
    assert optimizer.touched_rows(table, 2).numpy().tolist() == [2, 3]
    assert optimizer.touched_rows(table, 3).numpy().tolist() == []
    rows = optimizer.touched_rows(table, 0)
    copy[rows.numpy()] = tf.gather(table, rows).numpy()
    np.testing.assert_array_equal(copy, table.numpy())
    with pytest.raises(tf.errors.InvalidArgumentError, match="Received: -1"):
        optimizer.touched_rows(table, -1)


def test_errors():
    with pytest.raises(ValueError, match="'lazy', 'dense', 'exact' or 'eventual'"):
        tf_optim.Adam(sparse_update="eager")
    with pytest.raises(tf.errors.InvalidArgumentError):
        table, _, step = table_and_step()
        step(tf.constant([0, 10]))
    np.testing.assert_array_equal(table.numpy()[0], np.float32([-1, -17 / 19]))


WHOLE_TABLE = "Lamb LARS NovoGrad Adafactor Prodigy ConditionalGradient"


@pytest.mark.filterwarnings("ignore:`LazyAdam`:DeprecationWarning")
@pytest.mark.parametrize("mode", ["exact", "eventual"])
def test_what_takes_norms_of_the_whole_table_refuses_and_no_other(mode):
    for name in tf_optim.optimizers.__all__:
        cls = getattr(tf_optim, name)
        if name not in WHOLE_TABLE.split():
            assert cls(sparse_update=mode).sparse_update == mode
            continue
        with pytest.raises(ValueError) as error:
            cls(sparse_update=mode)
        assert str(error.value) == (
            "`sparse_update` must be 'lazy' or 'dense'. "
            f"{name} takes norms of the whole table, which idle rows change too. "
            f"Received: sparse_update='{mode}'"
        )


def test_catch_up_of_what_is_not_there():
    table, optimizer, step = table_and_step()
    step(tf.constant([0, 1]))
    other = tf.Variable(tf.zeros([10, 2]), name="other")
    bad = tf.errors.InvalidArgumentError
    for arguments, kind, said in [
        ((other,), ValueError, "the optimizer was built with.*Received.*other"),
        ((3,), ValueError, "the optimizer was built with.*Received: table=3"),
        ((None, [0]), ValueError, "`table` must be given with `ids`"),
        ((table, [0.5]), ValueError, "`ids` must be integers.*float32"),
        ((table, [0, 10]), bad, "Received: 10"),
        ((table, [-1]), bad, "Received: -1"),
    ]:
        with pytest.raises(kind, match=said):
            optimizer.catch_up(*arguments)
    optimizer.catch_up(table, [[0], [5]])
    optimizer.catch_up(table, [])


def test_catch_up_before_the_optimizer_is_built():
    optimizer, table = (
        tf_optim.Adam(sparse_update="exact"),
        tf.Variable(tf.ones([3, 2])),
    )
    optimizer.catch_up(table)
    for thing in ("x", tf.zeros([3, 3]), np.zeros([3, 3]), tf.Variable(1.0)):
        with pytest.raises(ValueError, match="have rows. Received: table="):
            optimizer.catch_up(thing, [0])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_embeddings_in_mixed_precision(policy):
    """Keras hands a tensor to the layer where it casts its variables."""
    ids = tf.constant([[1, 2], [3, 3]])
    for cls in (tf_optim.Embedding, tf.keras.layers.Embedding):
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Input((2,), dtype="int32"),
                cls(10, 4, dtype=policy),
                tf.keras.layers.Flatten(),
                tf.keras.layers.Dense(1, dtype=policy),
            ]
        )
        tf_optim.prepare(model)
        optimizer = tf_optim.Adam(0.1, sparse_update="exact")
        model.compile(optimizer, "mse")
        before = model.get_weights()[0]
        model.fit(ids, tf.ones([2, 1]), epochs=2, verbose=0)
        moved = np.any(model.get_weights()[0] != before, axis=1)
        np.testing.assert_array_equal(np.nonzero(moved)[0], [1, 2, 3])


@keras_3_only
def test_a_layer_whose_variables_are_given_to_its_call():
    layer = tf_optim.Embedding(5, 2)
    layer.build(None)
    given = tf.reshape(tf.range(10.0), [5, 2])
    rows, _ = layer.stateless_call([given], [], tf.constant([1, 4]))
    np.testing.assert_array_equal(rows, [[2.0, 3.0], [8.0, 9.0]])


@pytest.mark.skipif(not flavours.LEGACY, reason="Keras 3 has no ragged inputs")
def test_a_lookup_of_a_models_input():
    table = tf.Variable(tf.reshape(tf.range(10.0), [5, 2]))
    for ragged in (False, True):
        ids = tf.keras.Input([None], ragged=ragged, dtype="int32")
        model = tf.keras.Model(ids, tf_optim.lookup(table, ids))
        given = tf.ragged.constant([[1], [4]], dtype=tf.int32)
        rows = model(given if ragged else given.to_tensor())
        rows = rows.to_tensor() if ragged else rows
        np.testing.assert_array_equal(rows, [[[2.0, 3.0]], [[8.0, 9.0]]])


def test_lookup_and_prepare_of_what_is_no_table():
    table = tf.Variable(tf.ones([3, 2]))
    for ids in ([1.0], tf.constant([0.0])):
        with pytest.raises(ValueError, match="`ids` must be integers"):
            tf_optim.lookup(table, ids)
    with pytest.raises(ValueError, match="`table` must be a variable.*Received.*3"):
        tf_optim.lookup(3, [0])
    for thing in (tf_optim.Adam(), tf.ones([3, 2]), 3, "adam", None):
        for function in (tf_optim.prepare, tf_optim.unprepare):
            with pytest.raises(ValueError, match="`model` must be a model or layer"):
                function(thing)


@pytest.mark.parametrize("name", ["RowWiseAdam", "RowWiseAdagrad", "Adam"])
def test_rows_of_no_elements(name):
    """A mean over a row's elements divides by their number."""
    optimizer = getattr(tf_optim, name)(0.1, sparse_update="eventual", use_ema=True)
    table = tf.Variable(tf.zeros([3, 0]))
    for ids in ([0, 1, 0], [2], [0]):
        rows = tf.IndexedSlices(tf.zeros([len(ids), 0]), tf.constant(ids))
        optimizer.apply_gradients([(rows, table)])
        assert table.numpy().shape == (3, 0)
    assert int(optimizer.iterations) == 3


def test_touched_rows_of_one_optimizer_after_another():
    """Each counts steps of its own, a restored one some again: no row is missing."""
    table = tf.Variable(tf.zeros([6, 2]))
    tf_optim.prepare(table)

    def step(optimizer, row):
        tf_optim.lookup(table, [row])
        gradient = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([row]))
        optimizer.apply_gradients([(gradient, table)])

    first, second = (tf_optim.Adagrad(0.1, sparse_update="exact") for _ in range(2))
    for optimizer in (first, second):
        optimizer.build([table])
    first.iterations.assign(500)
    for row in (0, 1, 2):
        step(first, row)
    assert first.touched_rows(table, 501).numpy().tolist() == [1, 2]
    step(second, 4)
    step(second, 5)
    # Larger numbers of the first count as touched since.
    assert second.touched_rows(table, 1).numpy().tolist() == [0, 1, 2, 5]
    assert second.touched_rows(table, 0).numpy().tolist() == [0, 1, 2, 4, 5]
    assert first.touched_rows(table, 501).numpy().tolist() == [1, 2]
    second.iterations.assign(0)
    step(second, 3)
    assert 3 in second.touched_rows(table, 0).numpy()
    for wrong in ([], [0, 1], 1.5, "x"):
        with pytest.raises(ValueError, match="`since_step` must be"):
            second.touched_rows(table, wrong)
    tf_optim.unprepare(table)
    for wrong in (table, "table"):
        with pytest.raises(ValueError, match="`table` must be one whose rows"):
            second.touched_rows(wrong, 0)
