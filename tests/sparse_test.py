"""Sparse steps through TensorFlow: IndexedSlices, both modes."""

import numpy as np
import pytest
import tensorflow as tf

from tests import models, numerics
from tests.marks import (
    both_ways,
    every,
    every_case,
    every_dtype,
    every_index_dtype,
    kinds,
    modes,
    richest,
)
from tests.raw_ops import ITERATIONS, LEARNING_RATE, Variables
from tf_optim import reference, specs

# (shape of the variable, ids of its gradient)
TABLES = (
    ((10, 4), [7, 2, 9, 0]),  # unique
    ((10, 33), [3, 3, 8, 3, 0, 8, 3]),  # repeated, unsorted
    ((6,), [5, 1, 5]),  # rows of one number
    ((7, 2, 3), [6, 0, 6, 6, 2]),  # rows that are matrices
    ((5, 8), []),  # none
    ((4, 1), [2]),  # one
    ((1, 5), [0, 0, 0]),  # a table of one row
    ((300, 16), list(range(299, -1, -1))),  # all of them
    ((8, 0), [1, 2]),  # rows of nothing
)


def draw(case, dtype, seed=0):
    """A list of `(var, slots, grad, ids)`; sums of the gradients are exact."""
    rng = np.random.default_rng(seed)
    drawn = []
    for shape, ids in TABLES:
        var, slots, _ = numerics.draw(rng, case, shape, dtype)
        grad = rng.integers(-8, 9, size=(len(ids), *shape[1:])) / 4.0
        drawn.append((var, slots, grad.astype(var.dtype), ids))
    return drawn


def assert_sparse_step(case, before, after, grad, ids, mode, *step, **tail):
    """Rows that the step covers against the reference; others untouched."""
    (var, slots), (new_var, new_slots) = before, after
    rows, summed = reference.sum_duplicates(grad, np.array(ids, int))
    if mode == "dense":
        whole = np.zeros(var.shape)
        whole[rows] = summed
        rows, summed = np.arange(len(var)), whole
    numerics.assert_step(
        case,
        (var[rows], {k: v[rows] for k, v in slots.items()}),
        (new_var[rows], {k: v[rows] for k, v in new_slots.items()}),
        summed,
        *step,
        **tail,
    )
    others = np.setdiff1d(np.arange(len(var)), rows)
    assert new_var[others].tobytes() == var[others].tobytes()
    for key, value in slots.items():
        assert new_slots[key][others].tobytes() == value[others].tobytes()


@every("case", "mode")
@both_ways
@every_index_dtype
@modes
@every_dtype
@every_case
def test_op_is_the_reference(case, dtype, mode, index_dtype, graph):
    drawn = draw(case, dtype)
    variables = Variables(case, [d[:2] for d in drawn])

    def step(grads, indices):
        variables.sparse_apply(grads, indices, mode=mode)

    step = tf.function(step) if graph else step
    step(
        [tf.constant(d[2]) for d in drawn],
        [tf.constant(d[3], index_dtype) for d in drawn],
    )
    for i, (var, slots, grad, ids) in enumerate(drawn):
        assert_sparse_step(
            case,
            (var, slots),
            variables.after(i),
            grad,
            ids,
            mode,
            LEARNING_RATE,
            ITERATIONS,
        )


@modes
@every_dtype
@richest
def test_op_clipping_and_decay_are_per_variable(case, dtype, mode):
    """Scale and clip see the sum of a row's gradients."""
    drawn = draw(case, dtype)
    variables = Variables(case, [d[:2] for d in drawn])
    scale = np.linspace(0.3, 2.0, len(drawn))
    decay = np.linspace(0.0, 0.2, len(drawn))
    variables.sparse_apply(
        [tf.constant(d[2]) for d in drawn],
        [tf.constant(d[3], tf.int32) for d in drawn],
        mode=mode,
        gradient_scale=scale,
        clip_value=0.7,
        weight_decay=decay,
    )
    for i, (var, slots, grad, ids) in enumerate(drawn):
        assert_sparse_step(
            case,
            (var, slots),
            variables.after(i),
            grad,
            ids,
            mode,
            LEARNING_RATE,
            ITERATIONS,
            gradient_scale=scale[i],
            clip_value=0.7,
            weight_decay=decay[i],
        )


def slot_arrays(case, optimizer, i):
    return {
        slot.name: getattr(optimizer, slot.attribute)[i].numpy()
        for slot in specs.SPECS[case.name].slots
        if slot.name in {s.name for s in case.slots}
    }


@modes
@every_dtype
@every_case
def test_optimizer_on_indexed_slices(case, dtype, mode):
    """Five steps with other ids each, beside a dense variable."""
    rng = np.random.default_rng(1)
    table = models.variables(((12, 6),), dtype)[0]
    bias = models.variables(((6,),), dtype, seed=3)[0]
    optimizer = models.ours(case, sparse_update=mode)
    optimizer.build([table, bias])
    rate = models.rate(case)
    for iterations in range(5):
        ids = rng.integers(0, 12, size=9)
        grad = (rng.integers(-8, 9, size=(9, 6)) / 4.0).astype(table.numpy().dtype)
        before = table.numpy(), slot_arrays(case, optimizer, 0)
        slices = tf.IndexedSlices(
            tf.constant(grad), tf.constant(ids), dense_shape=tf.constant([12, 6])
        )
        optimizer.apply_gradients([(slices, table), (bias * 0.1, bias)])
        after = table.numpy(), slot_arrays(case, optimizer, 0)
        assert_sparse_step(case, before, after, grad, ids, mode, rate, iterations)


@modes
@kinds
def test_gradient_tape_through_a_lookup(case, mode):
    """What users do: gather with repeated ids, in a tf.function."""
    table = tf.Variable(np.random.default_rng(2).normal(size=(9, 3)), dtype="float32")
    optimizer = models.ours(case, sparse_update=mode)
    optimizer.build([table])
    before = table.numpy(), slot_arrays(case, optimizer, 0)

    @tf.function
    def step(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, ids) * 0.5)
        grad = tape.gradient(loss, table)
        assert isinstance(grad, tf.IndexedSlices)
        optimizer.apply_gradients([(grad, table)])

    step(tf.constant([4, 4, 1, 4]))
    assert_sparse_step(
        case,
        before,
        (table.numpy(), slot_arrays(case, optimizer, 0)),
        np.full((4, 3), 0.5, "float32"),
        [4, 4, 1, 4],
        mode,
        models.rate(case),
        0,
    )


def test_a_row_hit_twice_gets_the_square_of_the_sum():
    """The value of DESIGN's example, which stock Keras 3 gets wrong."""
    table = tf.Variable(tf.zeros([4, 1]))
    optimizer = models.tf_optim.RMSprop(0.1, rho=0.9)
    optimizer.build([table])
    slices = tf.IndexedSlices(tf.constant([[3.0], [-1.0]]), tf.constant([2, 2]))
    optimizer.apply_gradients([(slices, table)])
    np.testing.assert_allclose(
        optimizer._velocities[0].numpy()[:, 0], [0, 0, 0.1 * 2.0**2, 0], rtol=1e-6
    )


@modes
@every_case
def test_repeated_ids_are_the_same_as_their_sum(case, mode):
    results = []
    for values, ids in (
        ([[1.0, 2.0], [0.5, -1.0], [4.0, 0.25]], [3, 1, 3]),
        ([[0.5, -1.0], [5.0, 2.25]], [1, 3]),
    ):
        table = models.variables(((5, 2),))[0]
        optimizer = models.ours(case, sparse_update=mode, clipvalue=3.0)
        for _ in range(3):
            slices = tf.IndexedSlices(tf.constant(values), tf.constant(ids))
            optimizer.apply_gradients([(slices, table)])
        results.append([table.numpy(), *models.state(optimizer)])
    for left, right in zip(*results, strict=True):
        assert numerics.same_bits(left, right)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@modes
@kinds
def test_rows_of_another_float_type_are_cast(case, mode, dtype):
    """To the table's, as stock does with a dense gradient."""
    results = []
    for kind in (dtype, "float32"):
        table = models.variables(((5, 2),))[0]
        optimizer = models.ours(case, sparse_update=mode)
        values = tf.cast([[1.0, 2.0], [0.5, -1.0], [4.0, 0.25]], kind)
        rows = tf.IndexedSlices(values, tf.constant([3, 1, 3]))
        optimizer.apply_gradients([(rows, table)])
        results.append([table.numpy(), *models.state(optimizer)])
    for left, right in zip(*results, strict=True):
        assert numerics.same_bits(left, right)


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
@modes
@richest
def test_norms_see_the_summed_rows(case, mode, clip):
    """Stock takes the norm of the rows before they are summed."""
    if case.scope == "variable" and mode == "lazy":
        pytest.skip("its own norms are over other rows than with a dense gradient")
    results = []
    ids, values = [3, 1, 3], np.array([[1.0, 2.0], [0.5, -1.0], [4.0, 0.25]])
    whole = np.zeros((5, 2), "float32")
    np.add.at(whole, ids, values)
    for sparse in (True, False):
        table, bias = models.variables(((5, 2), (2,)))
        grad = tf.constant(whole)
        if sparse:
            grad = tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(ids))
        optimizer = models.ours(case, sparse_update=mode, **{clip: 0.5})
        optimizer.apply_gradients([(grad, table), (bias * 1.0, bias)])
        # The variables of many rules do not show how long a first gradient is.
        results.append([table.numpy(), bias.numpy(), *models.state(optimizer)])
    rows = [1, 3] if mode == "lazy" else range(5)
    for left, right in zip(*results, strict=True):
        if len(np.shape(left)) and len(left) == 5:
            left, right = left[rows], right[rows]
        np.testing.assert_allclose(left, right, rtol=2e-6, atol=1e-7)


@every_case
def test_dense_mode_is_the_dense_gradient_over_time(case):
    """Ten steps: rows without a gradient decay and drift as in dense training."""
    rng = np.random.default_rng(4)
    tables = [models.variables(((10, 3),))[0] for _ in range(2)]
    optimizers = [
        models.ours(case, sparse_update=mode, weight_decay=0.1)
        for mode in ("dense", "lazy")  # the second sees dense gradients alone
    ]
    for _ in range(10):
        ids = rng.integers(0, 10, size=6)
        values = rng.integers(-8, 9, size=(6, 3)) / 4.0
        whole = np.zeros((10, 3))
        np.add.at(whole, ids, values)
        slices = tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(ids))
        optimizers[0].apply_gradients([(slices, tables[0])])
        optimizers[1].apply_gradients([(tf.constant(whole, tf.float32), tables[1])])
    assert numerics.same_bits(tables[0].numpy(), tables[1].numpy())


@kinds
def test_a_step_is_one_op_for_each_kind(case):
    """Two tables and two dense variables: one sparse op and one dense op."""
    shapes = ((9, 2), (5, 2), (3,), (2,))
    variables = models.variables(shapes)
    optimizer = models.ours(case)
    optimizer.build(variables)

    @tf.function
    def step(values, ids):
        slices = [tf.IndexedSlices(values, ids)] * 2
        grads = [*slices, variables[2] * 1.0, variables[3] * 1.0]
        optimizer.apply_gradients(zip(grads, variables, strict=True))

    graph = step.get_concrete_function(
        tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int32)
    ).graph
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    nodes += [n for f in definition.library.function for n in f.node_def]
    ours = [node for node in nodes if node.op.startswith("TfOptim>")]
    # One of the two is checked before the other takes its step.
    steps = [node.op for node in ours if not node.attr["check_only"].b]
    assert sorted(steps) == [
        f"TfOptim>BundleApply{case.rule}",
        f"TfOptim>BundleSparseApply{case.rule}",
    ]
    assert len(ours) == 3


@modes
@kinds
def test_values_read_before_a_step_keep_their_value(case, mode):
    table = models.variables(((1000, 8),))[0]
    optimizer = models.ours(case, sparse_update=mode)
    for _ in range(2):
        before = table.read_value()
        copy = before.numpy().copy()
        slices = tf.IndexedSlices(tf.ones([3, 8]), tf.constant([1, 500, 1]))
        optimizer.apply_gradients([(slices, table)])
        assert np.array_equal(before, copy)
        assert not np.array_equal(table, copy)


@modes
@every_case
def test_nan_stays_in_its_row(case, mode):
    table = models.variables(((6, 4),))[0]
    optimizer = models.ours(case, sparse_update=mode, clipvalue=1.0)
    values = np.ones((3, 4), "float32")
    values[1, 2] = np.nan
    slices = tf.IndexedSlices(tf.constant(values), tf.constant([4, 2, 4]))
    optimizer.apply_gradients([(slices, table)])
    # Slots that a first gradient does not go into.
    untouched = {"Adan": "difference", "Rprop": "step_size"}.get(case.name)
    state = models.state(optimizer)
    if untouched:
        del state[[slot.name for slot in case.slots].index(untouched)]
    for value in [table.numpy(), *state]:
        if value.ndim == 0:
            continue
        assert not np.isnan(np.delete(value, 2, axis=0)).any()
        assert np.isnan(value[2, 2] if value.ndim == 2 else value[2])
        if case.scope != "row":  # there it is in the row's mean
            assert np.isnan(value).sum() == 1


@modes
@richest
def test_loss_scale_factor_with_an_embedding(case, mode):
    """Stock raises TypeError here."""
    results = []
    for factor in (None, 8.0):
        table = models.variables(((6, 4),))[0]
        optimizer = models.ours(case, sparse_update=mode, loss_scale_factor=factor)
        for _ in range(3):
            slices = tf.IndexedSlices(
                tf.ones([3, 4]) * (factor or 1.0), tf.constant([4, 2, 4])
            )
            optimizer.apply_gradients([(slices, table)])
        results.append([table.numpy(), *models.state(optimizer)])
    for left, right in zip(*results, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)
