"""Ids that the op that measures gradients has sorted, and that a step takes."""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, numerics
from tests.marks import every_index_dtype
from tests.raw_ops import Variables
from tf_optim import library

ADAM = next(c for c in cases.CASES if c.name == "Adam" and not c.arguments)
ROWS, WIDTH = 50, 3


def sorted_by_op(ids, rows, index_dtype=tf.int64):
    """The op's keys."""
    (*_, (keys,)) = library.ops().tf_optim_gradient_norms(
        grad=[tf.ones([len(ids), 1])],
        indices=[tf.constant(ids, index_dtype)],
        rows=[rows],
    )
    return keys.numpy()


@every_index_dtype
@pytest.mark.parametrize("count", [0, 1, 2, 127, 129, 5000, 70_000])
def test_keys_are_ids_and_positions_in_order(count, index_dtype):
    ids = np.random.default_rng(count).integers(0, 900, size=count)
    bits = max(0, count - 1).bit_length()
    order = np.argsort(ids, kind="stable")
    expected = (ids[order] << bits) | order
    np.testing.assert_array_equal(sorted_by_op(ids, 900, index_dtype), expected)


@pytest.mark.parametrize("wrong", [-1, 900])
def test_no_keys_of_ids_that_no_row_has(wrong):
    assert len(sorted_by_op([3, wrong, 5], 900)) == 0


def two_tables(index_dtype):
    rng = np.random.default_rng(2)
    arrays = [numerics.draw(rng, ADAM, (ROWS, WIDTH), "float32") for _ in range(2)]
    ids = [rng.integers(0, ROWS, size=n) for n in (40, 7)]
    grads = [tf.constant(rng.normal(size=(len(i), WIDTH)), tf.float32) for i in ids]
    ids = [tf.constant(i, index_dtype) for i in ids]
    return [each[:2] for each in arrays], grads, ids


def keys_of(grads, ids):
    *_, keys = library.ops().tf_optim_gradient_norms(
        grad=grads, indices=ids, rows=[ROWS] * len(ids)
    )
    return [k.numpy() for k in keys]


@every_index_dtype
@pytest.mark.parametrize("mode", ["lazy", "dense"])
def test_a_step_is_the_same_with_them(mode, index_dtype):
    arrays, grads, ids = two_tables(index_dtype)
    keys = keys_of(grads, ids)
    after = []
    for given in ([], keys, [keys[0], keys[1][:0]]):
        variables = Variables(ADAM, arrays)
        variables.sparse_apply(grads, ids, mode=mode, sorted_ids=given)
        after.append(variables.bytes())
    assert after[0] == after[1] == after[2] != Variables(ADAM, arrays).bytes()


def _swapped(keys):
    return keys[[1, 0, *range(2, len(keys))]]


@every_index_dtype
@pytest.mark.parametrize(
    "changed",
    [
        _swapped,
        lambda keys: np.repeat(keys[:1], len(keys)),
        lambda keys: keys + 1,  # the next position
        lambda keys: keys + 8,  # the next row
        lambda keys: np.arange(len(keys), dtype=np.uint64),
        lambda keys: np.full(len(keys), 2**64 - 1, np.uint64),
    ],
)
def test_others_are_refused(changed, index_dtype):
    arrays, grads, ids = two_tables(index_dtype)
    keys = keys_of(grads, ids)
    variables = Variables(ADAM, arrays)
    before = variables.bytes()
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"sorted_ids\[1\] must be indices\[1\]"
    ):
        variables.sparse_apply(grads, ids, sorted_ids=[keys[0], changed(keys[1])])
    with pytest.raises(tf.errors.InvalidArgumentError, match="or none. Received: 1"):
        variables.sparse_apply(grads, ids, sorted_ids=keys[:1])
    assert variables.bytes() == before


def test_a_row_that_only_the_measuring_op_has_is_refused():
    arrays, _, _ = two_tables(tf.int64)
    (var, slots), ids = arrays[0], [tf.constant([3, ROWS], tf.int64)]
    grads = [tf.ones([2, WIDTH])]
    *_, keys = library.ops().tf_optim_gradient_norms(
        grad=grads, indices=ids, rows=[ROWS + 1]
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"sorted_ids\[0\] must"):
        Variables(ADAM, [(var, slots)]).sparse_apply(grads, ids, sorted_ids=keys)


OPTIMIZERS = {
    "clipnorm": lambda: tf_optim.Adam(0.1, clipnorm=0.5),
    "global_clipnorm": lambda: tf_optim.Adam(0.1, global_clipnorm=0.5),
    "loss scale": lambda: tf_optim.LossScaleOptimizer(tf_optim.Adam(0.1)),
    "plain": lambda: tf_optim.Adam(0.1),
}


def _nodes(graph):
    """All nodes of a function and of those that it calls."""
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += function.node_def
    return nodes


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_hand_them_over(name, jit):
    """But for XLA, which sorts for itself."""
    tables = [tf.Variable(tf.ones([ROWS, WIDTH])) for _ in range(3)]
    bias = tf.Variable(tf.ones([WIDTH]))
    optimizer = OPTIMIZERS[name]()
    optimizer.build([*tables, bias])

    @tf.function(jit_compile=jit)
    def step():
        dtypes = tf.int64, tf.int32, tf.int32
        grads = [
            tf.IndexedSlices(tf.ones([2, WIDTH]), tf.constant([4, 1], dtype))
            for dtype in dtypes
        ]
        pairs = zip([*grads, tf.ones([WIDTH])], [*tables, bias], strict=True)
        optimizer.apply_gradients(pairs)

    graph = step.get_concrete_function().graph
    given = [n.attr["N_sorted_ids"].i for n in _nodes(graph) if "SparseApply" in n.op]
    takes = not jit and name != "plain"
    assert sorted(n for n in given if n >= 0)[-2:] == ([1, 2] if takes else [0, 0])
    step()
    assert np.all(tables[0].numpy()[[1, 4]] != 1) and tables[0].numpy()[0, 0] == 1
