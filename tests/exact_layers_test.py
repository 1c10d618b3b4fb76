"""Tables that layers of other classes read, and that are read in loops."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests.marks import both_flavours, keras_3_only

pytestmark = both_flavours


def test_a_table_of_a_class_derived_from_embedding_is_prepared():
    class Doubled(tf.keras.layers.Embedding):
        def call(self, inputs):
            return super().call(inputs) * 2.0

    results = []
    for mode in ("exact", "dense"):
        tf.keras.utils.set_random_seed(0)
        ids = tf.keras.layers.Input((2,), dtype="int32")
        rows = tf.keras.layers.Flatten()(Doubled(20, 3, name="table")(ids))
        model = tf.keras.Model(ids, tf.keras.layers.Dense(1)(rows))
        if mode == "exact":
            tf_optim.prepare(model)
        model.compile(tf_optim.Adam(0.1, sparse_update=mode), "mse", jit_compile=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for step in range(6):
                data = np.array([[step, 3], [step % 2, 9]], np.int32)
                model.train_on_batch(data, np.ones((2, 1)))
        if mode == "exact":
            said = {row.variable: row.kernel for row in tf_optim.explain(model).rows}
            assert "sparse exact" in said.values()
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def made_in_all_ways(ids):
    """Stock's layer, and those that are ours or have been, built before or after."""
    stock = tf.keras.layers.Embedding
    for make in (stock, tf_optim.Embedding):
        for changes in ([], [tf_optim.prepare], [tf_optim.prepare, tf_optim.unprepare]):
            for is_built_first in (True, False):
                tf.keras.utils.set_random_seed(0)
                layer = make(10, 4)
                if is_built_first:
                    layer(ids)
                for change in changes:
                    change(layer)
                layer(ids)
                yield layer


def test_layers_are_built_whatever_class_they_were_made_of():
    first, *others = made_in_all_ways(np.array([1, 3]))
    for layer in others:
        assert layer.built
        np.testing.assert_array_equal(layer.get_weights(), first.get_weights())


def test_classes_between_ours_and_stocks_are_asked():
    class Counted(tf.keras.layers.Embedding):
        def build(self, input_shape=None):
            super().build(input_shape)
            self.count = self.add_weight(shape=(), name="count", trainable=False)

    class Both(tf_optim.Embedding, Counted):
        pass

    layer = Both(10, 4)
    layer(np.array([1]))
    assert len(layer.weights) == 2


@keras_3_only
def test_a_prepared_layer_is_quantized_as_stocks():
    tables = []
    for layer in made_in_all_ways(np.array([1, 3])):
        if not hasattr(layer, "quantize"):
            pytest.skip("this Keras quantizes nothing")
        layer.quantize("int8", type_check=True)
        tables.append([w.numpy() for w in layer.weights])
        np.testing.assert_allclose(layer(np.array([1])).shape, (1, 4))
    for others in tables[1:]:
        for one, other in zip(tables[0], others, strict=True):
            np.testing.assert_array_equal(one, other)

    class Own(tf_optim.Embedding):
        def call(self, inputs):
            return super().call(inputs)

    layer = Own(10, 4)
    layer.build()
    with pytest.raises(NotImplementedError):  # what Keras knows nothing of
        layer.quantize("int8")


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("loop", ["map", "while", "scan"])
def test_a_table_that_is_read_in_a_loop_has_a_gradient(loop, persistent):
    table = tf.Variable(tf.reshape(tf.range(12.0), [6, 2]))
    tf_optim.prepare(table)

    def square(i):
        return tf.reduce_sum(tf_optim.lookup(table, i) ** 2)

    @tf.function
    def gradient(ids):
        with tf.GradientTape(persistent) as tape:
            if loop == "map":
                total = tf.reduce_sum(
                    tf.map_fn(square, ids, fn_output_signature=tf.float32)
                )
            elif loop == "scan":
                total = tf.scan(lambda sum, i: sum + square(i), ids, 0.0)[-1]
            else:
                total = tf.constant(0.0)
                for i in ids:
                    total += square(i)
        return tf.convert_to_tensor(tape.gradient(total, table))

    expected = np.zeros((6, 2))
    for i in (3, 4, 3):
        expected[i] += 2 * table.numpy()[i]
    found = gradient(tf.constant([3, 4, 3]))
    np.testing.assert_allclose(found, expected)


def test_a_cell_that_looks_rows_up_trains():
    class Cell(tf.keras.layers.Layer):
        state_size = 2

        def __init__(self):
            super().__init__()
            self.table = tf_optim.Embedding(9, 2)
            self.output_size = 2

        def call(self, inputs, states):
            rows = self.table(tf.cast(inputs[:, 0], tf.int32))
            return states[0] + rows, [states[0] + rows]

    results = []
    for mode in ("exact", "dense"):
        tf.keras.utils.set_random_seed(0)
        inputs = tf.keras.layers.Input((3, 1))
        outputs = tf.keras.layers.RNN(Cell())(inputs)
        model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(outputs))
        model.compile(tf_optim.Adam(0.1, sparse_update=mode), "mse", jit_compile=False)
        ids = np.arange(12).reshape(4, 3, 1) % 7
        model.fit(ids.astype("float32"), np.ones((4, 1)), 2, 3, 0, shuffle=False)
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
