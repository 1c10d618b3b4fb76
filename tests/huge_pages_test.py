"""Huge pages: slots start there, `use_huge_pages` moves memory, values stay."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import flavours, models
from tests.marks import both_flavours
from tf_optim import keras_private, library, packed, pages
from tf_optim.benchmark import huge_pages

pytestmark = both_flavours
ROWS, WIDTH = 200_000, 16  # 12.8 MB


def in_huge_pages(memory):
    """Of the mappings that it lies in, the bytes there."""
    first, last = memory.ctypes.data, memory.ctypes.data + memory.nbytes
    size = 0
    with open("/proc/self/smaps") as file:
        for line in file:
            if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                begin, end = (int(each, 16) for each in found.groups())
            elif found := re.match(r"AnonHugePages:\s+(\d+) kB", line):
                size += 1024 * int(found[1]) * (begin < last and first < end)
    return size


def use(of, min_bytes=1 << 22):
    """Skips where Linux has no such call, and then says so."""
    try:
        return tf_optim.use_huge_pages(of, min_bytes)
    except RuntimeError as error:
        assert "Linux 6.1" in str(error) and "GLIBC_TUNABLES" in str(error)
        pytest.skip(str(error))


def table_and(optimizer):
    start = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    table = tf.Variable(start, name="table")
    optimizer.build([table])
    return table


def step(optimizer, table, i):
    ids = np.random.default_rng(i).integers(0, ROWS, size=100)
    rows = tf_optim.lookup(table, ids) if optimizer.sparse_update == "exact" else 1.0
    values = tf.ones([100, WIDTH]) * rows
    optimizer.apply_gradients([(models.slices(ids, values, ROWS), table)])


OPTIONS = [
    {},
    {"sparse_update": "exact", "use_ema": True},
    {"slot_dtype": "bfloat16"},
    {"slot_dtype": "int8"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_training_goes_on_with_the_same_bits(options):
    after = []
    for moves in (False, True):
        optimizer = tf_optim.Adam(0.1, **options)
        table = table_and(optimizer)
        for i in range(4):
            if i == 2 and moves:
                assert use(optimizer, 1 << 21) >= ROWS * WIDTH * 3  # and slots
            step(optimizer, table, i)
        after.append([np.array(v) for v in (table, *models.state(optimizer))])
    for plain, moved in zip(*after, strict=True):
        np.testing.assert_array_equal(plain, moved)


def test_memory_moves_and_its_address_does_not():
    optimizer = tf_optim.Adam(0.1, sparse_update="dense")
    table = table_and(optimizer)

    def memory():
        return np.asarray(memoryview(table.read_value()))

    before = np.array(memory())
    assert use([table]) >= before.nbytes - 2**22
    place = memory().ctypes.data
    assert in_huge_pages(memory()) >= before.nbytes - 2**22
    np.testing.assert_array_equal(memory(), before)
    step(optimizer, table, 0)
    assert memory().ctypes.data == place


def test_a_model_and_its_optimizer():
    model = models.compiled(models.recommender(), tf_optim.Adam())
    model.optimizer.build(model.trainable_variables)
    assert use(model) == 0  # all of it is small
    optimizer = tf_optim.Adam(amsgrad=True)
    table = table_and(optimizer)
    whole = ROWS * WIDTH * 4
    assert 4 * (whole - 2**22) <= use(optimizer) <= 4 * whole
    assert whole - 2**22 <= use([table, tf.Variable(1.0)]) <= whole
    wrapped = tf_optim.LossScaleOptimizer(tf_optim.SGD(momentum=0.9))
    assert 2 * (whole - 2**22) <= use(_built(wrapped)) <= 2 * whole


def _built(wrapper):
    table = tf.Variable(tf.ones([ROWS, WIDTH]))
    inner = wrapper.inner_optimizer
    inner.build([table])
    if hasattr(wrapper, "apply"):
        wrapper.build([table])
    return wrapper


def test_of_what_variables_are_found():
    """Of a table in parts, a Keras variable, and one of several optimizers."""
    whole = ROWS * WIDTH * 4
    parts = [tf.Variable(tf.ones([ROWS, WIDTH])) for _ in range(2)]
    table = tf.__internal__.distribute.ShardedVariable(parts)
    assert 2 * (whole - 2**22) <= use([table]) <= 2 * whole
    one = tf.Variable(tf.ones([ROWS, WIDTH]))
    layer = tf.keras.layers.Embedding(ROWS, WIDTH)
    layer.build(None)
    assert whole - 2**22 <= use(layer.trainable_variables) <= whole
    several = tf_optim.MultiOptimizer(
        [(tf_optim.SGD(0.1), [".*"]), (tf_optim.Adam(), None)]
    )
    several.build([one])
    # tf_keras' SGD has a slot without momentum, too.
    assert whole - 2**22 <= use(several) <= 2 * whole


def enabled():
    """Whether Linux gives huge pages to memory that asks for them."""
    file = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return file.exists() and "[never]" not in file.read_text()


# Slots with an element for each of the table's.
STARTS = [
    ("Adam", {}, 2),
    ("Adam", {"slot_dtype": "int8"}, 2),
    ("RowWiseAdam", {"slot_dtype": "int8"}, 1),
    ("Adagrad", {}, 1),
]


@pytest.mark.parametrize("name, options, count", STARTS)
@pytest.mark.skipif(not enabled(), reason="no transparent huge pages")
def test_slots_start_in_huge_pages(name, options, count, monkeypatch):
    if name == "Adagrad" and flavours.LEGACY:
        pytest.skip("tf_keras makes its accumulator")
    monkeypatch.setattr(pages, "LEAST_BYTES", 1 << 21)
    found = 0
    optimizer = getattr(tf_optim, name)(0.1, **options)
    table = table_and(optimizer)
    for slot in map(keras_private.raw, optimizer._variables):
        if slot.shape != table.shape:
            continue
        stored = tf.raw_ops.ReadVariableOp(
            resource=slot.handle, dtype=packed.storage_of(slot)[1]
        )
        memory = np.asarray(memoryview(stored))
        found += in_huge_pages(memory) >= memory.nbytes - 2**22
    assert found == count


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_slots_start_at_the_same_values(dtype, monkeypatch):
    """In huge pages as outside of them, and as stock's."""
    for name in ("Adam", "Adagrad", "Ftrl", "Yogi", "AdaBelief", "RowWiseAdagrad"):
        states = []
        for least in (1 << 40, 0):
            monkeypatch.setattr(pages, "LEAST_BYTES", least)
            optimizer = getattr(tf_optim, name)(0.1)
            optimizer.build([tf.Variable(tf.ones([5, 3], dtype))])
            states.append([np.array(v) for v in models.state(optimizer)])
        for small, huge in zip(*states, strict=True):
            assert small.dtype == huge.dtype
            np.testing.assert_array_equal(small, huge)
    if dtype == "bfloat16":
        return  # stock's slots are
    starts = []
    for make in (tf.keras.optimizers.Adagrad, tf_optim.Adagrad):
        optimizer = make(0.1)
        optimizer.build([tf.Variable(tf.ones([5, 3], dtype))])
        starts.append(np.array(optimizer._accumulators[0]))
    np.testing.assert_array_equal(*starts)


@pytest.mark.parametrize("shape", [[], [0], [3, 0], [7], [1025, 3], [1 << 20, 3]])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
def test_op_that_fills(shape, dtype):
    value = tf.constant(3.25 if dtype.startswith("float") else 7, dtype)
    filled = library.ops().tf_optim_fill_in_huge_pages(dims=shape, value=value)
    np.testing.assert_array_equal(filled, np.full(shape, value, dtype))


def test_op_that_fills_refuses_other_shapes():
    fill = library.ops().tf_optim_fill_in_huge_pages
    for dims, value in [([-1], 1.0), (3, 1.0), ([3], [1.0])]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be"):
            fill(dims=tf.constant(dims, tf.int64), value=tf.constant(value))


def test_errors():
    with pytest.raises(TypeError, match="`of` must be a model"):
        tf_optim.use_huge_pages(3)
    with pytest.raises(TypeError, match="`of` must be a model.*Tensor"):
        tf_optim.use_huge_pages([tf.ones([2])])
    with pytest.raises(ValueError, match="must be one of tf_optim's"):
        tf_optim.use_huge_pages(tf.keras.optimizers.SGD())
    model = models.compiled(models.recommender(), tf_optim.Adam())
    with pytest.raises(ValueError, match="must be built"):  # it has no slots yet
        tf_optim.use_huge_pages(model)
    with pytest.raises(RuntimeError, match="outside of a `tf.function`"):
        tf.function(lambda: tf_optim.use_huge_pages([]) * tf.ones([]))()


def test_table_of_the_benchmark():
    figures = [(2.0, 1.0, 0.0), (1.7, 0.85, 0.04), (1.5, 0.75, 0.1)]
    rows = [
        {"case": "growth-1m", "ours": {"ms": ms, "ratio": ratio, "spread": spread}}
        for ms, ratio, spread in figures
    ]
    line = (
        "| 8,192 ids into 1,000,000 x 16 | 2 | 1.7 | 0.85x +- 0.04 | 1.5 | "
        "0.75x +- 0.10 |"
    )
    assert huge_pages.table(rows).splitlines()[2:] == [line]
