"""Under XLA a GPU's step is a call of the CUDA drivers, in the variables' memory.

Here XLA's CPU makes the same calls, of the same frames, and the drivers' emulation
answers them: all but the CUDA stream and the memory that XLA lends on a GPU.
"""

import re

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, gpu_library, models
from tests.marks import every_dtype, every_index_dtype, modes, richest, xla_calls
from tests.raw_ops import Variables
from tests.xla_test import (
    MORE_TABLES,
    SHAPES,
    TABLES,
    arrays_of,
    assert_close,
    both,
    draw,
    draw_tables,
    tail,
    values,
)
from tf_optim import library

pytestmark = xla_calls
ADAM = next(c for c in cases.CASES if c.rule == "Adam")


@pytest.fixture(scope="module")
def emulated_kernels():
    library.ops()
    return gpu_library.Library(library.find("_gpu.so")).emulated_kernels


@pytest.fixture(autouse=True)
def emulation(emulated_kernels):
    library.lend_to_xla(emulated_kernels, emulated=True)
    yield
    library.lend_to_xla(None, emulated=True)


def calls_of(step):
    """The targets of a function's calls out of XLA, and what each writes in place."""
    function = tf.function(step, jit_compile=True)
    computation = function.experimental_get_compiler_ir()(stage="hlo")
    calls = re.findall(r"custom-call\(.*", computation)
    return [
        (
            re.search(r'custom_call_target="(\w+)"', call)[1],
            len(re.findall(r"\{\d+\}: \(\d+, \{\}\)", call)),
        )
        for call in calls
    ]


def step_on(shapes, case=ADAM):
    drawn = draw(case, "float32", shapes)
    variables = Variables(case, arrays_of(drawn))
    grads = [tf.constant(grad) for _, _, grad in drawn]
    return lambda: variables.apply(grads)


@every_dtype
@richest
def test_dense(case, dtype):
    drawn = draw(case, dtype, SHAPES)
    grads = [tf.constant(grad) for _, _, grad in drawn]
    changed = tail(len(SHAPES))
    arrays = arrays_of(drawn)
    assert_close(case, *both(case, arrays, lambda v: v.apply(grads, **changed)))


@modes
@every_dtype
@richest
def test_sparse(case, dtype, mode):
    arrays, grads, ids = draw_tables(case, dtype, TABLES + MORE_TABLES)

    def step(variables):
        variables.sparse_apply(
            [tf.constant(g) for g in grads],
            [tf.constant(i, tf.int64) for i in ids],
            mode=mode,
            **tail(len(ids)),
        )

    assert_close(case, *both(case, arrays, step))


@modes
@every_index_dtype
def test_ids_outside_of_the_table_are_dropped(index_dtype, mode):
    arrays, _, _ = draw_tables(ADAM, "float32", TABLES[:1])
    grad = np.random.default_rng(5).normal(size=(4, 5)).astype("float32")
    results = []
    for ids, rows in (([3, 10, -1, 7], [0, 1, 2, 3]), ([3, 7], [0, 3])):
        variables = Variables(ADAM, arrays)
        step = tf.function(variables.sparse_apply, jit_compile=True)
        step([tf.constant(grad[rows])], [tf.constant(ids, index_dtype)], mode=mode)
        results.append(values(variables))
    for left, right in zip(*results, strict=True):
        assert np.isfinite(left).all()
        np.testing.assert_array_equal(left, right)


def test_the_bits_are_those_of_the_op():
    drawn = draw(ADAM, "float32", ((1000,), (30, 7)))
    grads = [tf.constant(grad) for _, _, grad in drawn]
    for left, right in zip(
        *both(ADAM, arrays_of(drawn), lambda v: v.apply(grads)), strict=True
    ):
        assert left.tobytes() == right.tobytes()


def test_up_to_64_variables_are_one_call_in_their_own_memory():
    target, streams = "tf_optim_gpu_step", 1 + len(ADAM.slots)
    assert calls_of(step_on([(3,)] * 64)) == [(target, 64 * streams)]
    assert sorted(calls_of(step_on([(3,)] * 65))) == [
        (target, streams),
        (target, 64 * streams),
    ]


def test_the_portable_step_calls_nobody(monkeypatch):
    monkeypatch.setenv("TF_OPTIM_XLA_STEP", "portable")
    assert calls_of(step_on([(3,)])) == []


def test_kernels_for_cuda_leave_steps_on_a_cpu_to_the_cpu(emulated_kernels):
    """Also that XLA takes the function for that platform, as a GPU's build gives it."""
    library.lend_to_xla(emulated_kernels, emulated=False)
    ((target, _),) = calls_of(step_on([(3,)]))
    assert target.startswith("tf_optim_step_Adam")


def test_training_is_that_outside_of_xla():
    results = []
    for jit in (True, False):
        model = models.recommender()
        model.compile(tf_optim.Adam(0.01), "mse", jit_compile=jit)
        x, y = models.recommender_data(unique=False)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for left, right in zip(*results, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)
