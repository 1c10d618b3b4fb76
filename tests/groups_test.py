"""A step that takes several ops is made as a whole or not at all.

Wherever the wrong input is, in the first op of the step or in a later one.
"""

import types

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, models
from tests.children import Child
from tests.marks import both_ways, keras_3_only
from tf_optim import op_calls, specs

one = pytest.mark.parametrize("case", cases.RICHEST[1:2], ids=str)
DTYPES = ("float32", "float64", "float16")


class Groups:
    """Three variables per dtype, one of them a table; a group for each kind."""

    def __init__(self, case):
        self.case = case
        self.spec = specs.SPECS[case.name]
        self.vars = [
            tf.Variable(tf.ones(shape, dtype))
            for dtype in DTYPES
            for shape in ((4,), (3, 2), (6, 2))
        ]
        self.slots = [
            tuple(
                tf.Variable(tf.ones(v.shape, "float64" if wide else "float32"))
                if slot.name in [s.name for s in case.slots]
                else None
                for slot in self.spec.slots
            )
            for v in self.vars
            for wide in [v.dtype == tf.float64]
        ]

    def gradients(self):
        grads = [tf.ones(v.shape, v.dtype) for v in self.vars]
        for i in range(2, len(grads), 3):
            grads[i] = tf.IndexedSlices(grads[i][:3], tf.constant([0, 5, 0]))
        return grads

    def step(self, grads):
        updates = [
            op_calls.VariableUpdate(v, slots, g, 0.1)
            for v, slots, g in zip(self.vars, self.slots, grads, strict=True)
        ]
        numbers = op_calls.StepNumbers(
            learning_rate=0.1,
            iterations=tf.constant(3, tf.int64),
            hyper=tuple(self.case.op_hyper(3).values()),
            flags=tuple(self.case.flags.values()),
        )
        op_calls.call_ops(self.spec, numbers, updates)

    def values(self):
        slots = [slot for slots in self.slots for slot in slots]
        all_ = [v for v in (*self.vars, *slots) if isinstance(v, tf.Variable)]
        return [v.numpy().tobytes() for v in all_]


def assert_nothing_changes(case, spoil, graph, message):
    """`spoil(groups, grads, i)` makes the i-th input wrong, if it can."""
    for i in range(3 * len(DTYPES)):
        groups = Groups(case)
        grads = groups.gradients()
        if not spoil(groups, grads, i):
            continue
        before = groups.values()
        step = tf.function(groups.step) if graph else groups.step
        with pytest.raises(tf.errors.OpError, match=message):
            step(grads)
        assert groups.values() == before


@both_ways
@one
def test_all_groups_step(case, graph):
    """So the tests below could see a step."""
    groups = Groups(case)
    before = [v.numpy() for v in groups.vars]
    step = tf.function(groups.step) if graph else groups.step
    step(groups.gradients())
    for variable, old in zip(groups.vars, before, strict=True):
        assert not np.array_equal(variable.numpy(), old)


@both_ways
@one
def test_id_out_of_range(case, graph):
    def spoil(groups, grads, i):
        if not isinstance(grads[i], tf.IndexedSlices):
            return False
        grads[i] = tf.IndexedSlices(grads[i].values, tf.constant([0, 6, 0]))
        return True

    message = r"indices\[1\] of var\[[012]\] must be in"
    assert_nothing_changes(case, spoil, graph, message)


@both_ways
@one
def test_slot_that_does_not_exist(case, graph):
    def spoil(groups, grads, i):
        k = next(k for k, s in enumerate(groups.slots[i]) if s is not None)
        slot = groups.slots[i][k]
        handle = tf.raw_ops.VarHandleOp(
            dtype=slot.dtype, shape=slot.shape, shared_name="nobody made it"
        )
        slots = list(groups.slots[i])
        slots[k] = types.SimpleNamespace(handle=handle)
        groups.slots[i] = tuple(slots)
        return True

    assert_nothing_changes(case, spoil, graph, "must be a variable that exists")


@one
def test_shape_that_a_graph_learns_when_it_runs(case):
    shape = tf.Variable([5], shape=[None])  # so that no graph knows it

    def spoil(groups, grads, i):
        if isinstance(grads[i], tf.IndexedSlices):
            return False
        dtype = grads[i].dtype
        original = groups.step

        def step(grads):
            grads = list(grads)
            grads[i] = tf.ones(shape, dtype)
            original(grads)

        groups.step = step
        return True

    assert_nothing_changes(case, spoil, True, r"grad\[[01]\] must have shape")


# --- auto-clustering

AUTO_JIT = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=1"


def step_with_wrong_id():
    """What a step says of an id outside its table, and the table after it."""
    table = tf.Variable(tf.ones([6, 2]))
    optimizer = models.ours(cases.RICHEST[0])
    optimizer.build([table])

    @tf.function
    def step(ids):
        rows = tf.IndexedSlices(tf.ones([3, 2]) * 0.5, ids + 1, tf.constant([6, 2]))
        optimizer.apply_gradients([(rows, table)])

    step(tf.constant([0, 1, 0]))
    before = table.numpy()
    try:
        step(tf.constant([0, 5, 0]))
    except tf.errors.InvalidArgumentError as error:
        return str(error), bool((table.numpy() == before).all())
    return "", False


def test_auto_clustering_leaves_the_step_outside():
    """In a cluster tables are copied, and wrong ids go without an error."""
    with Child({"TF_XLA_FLAGS": AUTO_JIT}) as child:
        message, unchanged = child.call(step_with_wrong_id)
    assert "indices[1] of var[0] must be in [0, 6). Received: 6." in message
    assert unchanged


@keras_3_only
@pytest.mark.parametrize("wrong", [0, 2])
def test_a_shape_known_at_run_time_in_a_window_changes_nothing(wrong):
    """Shapes that tracing does not know: one that is wrong stops all of the step."""
    variables = models.variables(((2,), (4, 2), (2,)))
    optimizer = tf_optim.RMSprop(0.1, momentum=0.5, gradient_accumulation_steps=3)
    optimizer.build(variables)
    unknown = tf.TensorSpec(None, tf.float32)

    @tf.function(input_signature=[unknown, unknown, unknown])
    def step(first, rows, last):
        gradient = tf.IndexedSlices(rows, tf.constant([1, 2]), tf.constant([4, 2]))
        optimizer.apply_gradients(zip([first, gradient, last], variables, strict=True))

    good = [tf.ones([2]), tf.ones([2, 2]), tf.ones([2])]
    bad = [tf.ones([1, 2]), tf.ones([3, 2]), tf.ones([3])]
    step(*good)
    before = models.everything(variables, optimizer)
    with pytest.raises(tf.errors.InvalidArgumentError):
        step(*(bad[i] if i == wrong else good[i] for i in range(3)))
    after = models.everything(variables, optimizer)
    for left, right in zip(after, before, strict=True):
        np.testing.assert_array_equal(left, right)
    step(*good)
