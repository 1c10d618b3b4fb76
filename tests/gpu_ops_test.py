"""TensorFlow's ops on a GPU: python -m pytest --gpu tests/gpu_ops_test.py

For a machine with a GPU and a --config=cuda build; what the drivers do there
tests/gpu_drivers_test.py has.
"""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.marks import modes, richest
from tests.raw_ops import Variables
from tests.xla_test import arrays_of, assert_close, draw, draw_tables, tail, values
from tf_optim import library

GPUS = tf.config.list_physical_devices("GPU")
if not GPUS or not library.build_info()["cuda"]:
    pytest.skip("needs --gpu, a GPU and a --config=cuda build", allow_module_level=True)

SGD = next(c for c in cases.CASES if c.rule == "SGD" and not c.slots)
SHAPES = ((), (1,), (17,), (4, 3, 5), (0, 3), (5000,))
TABLES = (
    ((10, 5), [3, 3, 8, 3, 0, 8, 3]),
    ((50, 64), [7] * 200 + list(range(50))),
    ((6,), [5, 1, 5]),
)


def on_both(case, arrays, step, jit=False):
    """The variables after `step(variables)` on the GPU, and on the CPU."""
    results = []
    for device in ("GPU:0", "CPU:0"):
        with tf.device(device):
            variables = Variables(case, arrays)
            tf.function(lambda v=variables: step(v), jit_compile=jit)()
            assert all(device in v.device for v in variables.var)
            results.append(values(variables))
    return results


def wait():
    """For all that the GPU has to do."""
    with tf.device("GPU:0"):
        tf.zeros(()).numpy()
    tf.test.experimental.sync_devices()


def test_this_machine_can_run_the_kernels():
    assert library.build_info()["gpu"] == "ready"


@pytest.mark.parametrize("jit", (False, True))
@richest
def test_a_dense_step_is_the_cpus(case, jit):
    drawn = draw(case, "float32", SHAPES)
    grads = [grad for _, _, grad in drawn]
    changed = tail(len(SHAPES))

    def step(variables):
        variables.apply([tf.constant(g) for g in grads], **changed)

    assert_close(case, *on_both(case, arrays_of(drawn), step, jit))


@pytest.mark.parametrize("index_dtype", (tf.int32, tf.int64))
@pytest.mark.parametrize("jit", (False, True))
@modes
@richest
def test_a_sparse_step_is_the_cpus(case, mode, jit, index_dtype):
    """int32 tensors that TensorFlow makes are often in the host's memory."""
    arrays, grads, ids = draw_tables(case, "float32", TABLES)

    def step(variables):
        variables.sparse_apply(
            [tf.constant(g) for g in grads],
            [tf.constant(i, index_dtype) for i in ids],
            mode=mode,
            **tail(len(ids)),
        )

    assert_close(case, *on_both(case, arrays, step, jit))


def test_a_jitted_step_calls_the_drivers():
    with tf.device("GPU:0"):
        drawn = draw(SGD, "float32", [(20,)] * 3)
        variables = Variables(SGD, arrays_of(drawn))
        grads = [tf.constant(grad) for _, _, grad in drawn]
        step = tf.function(lambda: variables.apply(grads), jit_compile=True)
        computation = step.experimental_get_compiler_ir()(stage="hlo")
    assert computation.count('custom_call_target="tf_optim_gpu_step"') == 1


def test_a_wrong_index_is_the_next_steps_error_and_of_no_other_model():
    with tf.device("GPU:0"):
        arrays, grads, _ = draw_tables(SGD, "float32", (((10, 4), [0, 1, 2]),))
        mine, others = Variables(SGD, arrays), Variables(SGD, arrays)
        wrong, right = tf.constant([0, 12, 2]), tf.constant([0, 1, 2])
        mine.sparse_apply(grads, [wrong])
        wait()
        others.sparse_apply(grads, [right])
        before = mine.bytes()
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            mine.sparse_apply(grads, [right])
        assert "An earlier step skipped an index" in error.value.message
        assert "indices[1] of var[0] must be in [0, 10). Received: 12." in str(
            error.value.message
        )
        assert mine.bytes() == before
        mine.sparse_apply(grads, [right])  # it is told once
        assert mine.bytes() != before


def test_a_new_variable_inherits_no_error():
    with tf.device("GPU:0"):
        arrays, grads, _ = draw_tables(SGD, "float32", (((10, 4), [0, 1, 2]),))
        for _ in range(20):  # some have the memory of one before
            variables = Variables(SGD, arrays)
            variables.sparse_apply(grads, [tf.constant([0, 1, 2])])
            variables.sparse_apply(grads, [tf.constant([0, -1, 2])])
            wait()
            del variables


def test_who_has_read_a_variable_keeps_what_was_read():
    with tf.device("GPU:0"):
        drawn = draw(SGD, "float32", [(1000,)])
        variables = Variables(SGD, arrays_of(drawn))
        read = variables.var[0].value()
        variables.apply([tf.constant(drawn[0][2])])
        np.testing.assert_array_equal(read.numpy(), drawn[0][0])
        assert (variables.var[0].numpy() != drawn[0][0]).any()


@pytest.mark.skipif(len(GPUS) < 2, reason="needs two GPUs")
def test_a_second_gpu():
    arrays, grads, ids = draw_tables(SGD, "float32", TABLES)
    results = []
    for device in ("GPU:1", "GPU:0"):
        with tf.device(device):
            variables = Variables(SGD, arrays)
            variables.sparse_apply(
                [tf.constant(g) for g in grads], [tf.constant(i) for i in ids]
            )
            results.append(values(variables))
    for left, right in zip(*results, strict=True):
        assert left.tobytes() == right.tobytes()


def test_training_is_the_cpus_with_what_keras_chooses():
    """Keras 3 compiles the step with XLA where there is one GPU."""
    results = []
    for device in ("GPU:0", "CPU:0"):
        with tf.device(device):
            model = models.recommender()
            model.compile(tf_optim.Adam(0.01), "mse")
            x, y = models.recommender_data(unique=False)
            model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
            results.append(model.get_weights())
    for left, right in zip(*results, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)


def test_a_step_without_memory_has_changed_nothing():
    code = """
import tensorflow as tf
gpu = tf.config.list_physical_devices("GPU")[0]
limit = tf.config.LogicalDeviceConfiguration(memory_limit=64)  # MB
tf.config.set_logical_device_configuration(gpu, [limit])
import tf_optim
with tf.device("GPU:0"):
    count = 1 << 20
    table = tf.Variable(tf.ones((1000, 4)))
    grad = tf.IndexedSlices(tf.ones((count, 4)), tf.zeros(count, tf.int64), (1000, 4))
    rest = [tf.ones(1 << 20)]
    try:
        while True:
            rest.append(tf.ones(1 << 20))
    except tf.errors.ResourceExhaustedError:
        pass
    optimizer = tf_optim.SGD(1.0)
    try:
        optimizer.apply_gradients([(grad, table)])
    except tf.errors.ResourceExhaustedError:
        print("untouched", float(tf.reduce_min(table)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "untouched 1.0" in done.stdout, done.stderr[-2000:]
