"""Wrong inputs of the raw ops: one clear error, and nothing written before it.

The second of two variables is wrong; the first must not change either.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests import cases, numerics
from tests.marks import every, kinds, modes, richest
from tests.raw_ops import Variables

# What TensorFlow raises for an op's complaint, and for a shape seen while tracing.
OP_ERRORS = (tf.errors.OpError, ValueError)

# What each is, `bad_inputs` and `bad_rows` say.
BAD_INPUTS = (
    "grad shape",
    "grad of fewer rows",
    "var dtype",
    "slot dtype",
    "slot shape",
    "uninitialized var",
    "uninitialized slot",
    "same variable twice",
    "slot is the variable",
    "too few scales",
    "too many decays",
    "negative clip",
    "nan clip",
    "negative decay",
    "nan decay",
    "no variable",
    "iterations",
    "learning rate",
    "hyperparameter",
)
BAD_ROWS = (
    "index too large",
    "negative index",
    "index beyond int32",
    "least int64",
    "index that is 32 bits of a good one",
    "fewer gradients than indices",
    "row shape",
    "gradient rank",
    "indices rank",
    "scalar variable",
)


def good(case):
    drawn = [
        numerics.draw(np.random.default_rng(i), case, (10, 3), "float32")
        for i in range(2)
    ]
    variables = Variables(case, [(var, slots) for var, slots, _ in drawn])
    return variables, [tf.constant(grad) for _, _, grad in drawn]


def uninitialized(shape, dtype="float32"):
    return tf.raw_ops.VarHandleOp(
        dtype=dtype, shape=shape, shared_name=tf.raw_ops.VarHandleOp.__name__ + "none"
    )


def table_handle(kept):
    kept.append(tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, 0, 1, 2))
    return kept[-1].resource_handle


def bad_inputs(variables, grads):
    """name -> (changed inputs, what the message says)."""
    first, second = (v.handle for v in variables.var)
    slot = variables.case.slots[0].name
    slots = [v.handle for v in variables.slots[slot]]
    slot_shape = "[10,3] of var[1]"
    if variables.case.slots[0].per_row:
        slot_shape = "[10], one number per row of var[1]"

    may_be_packed = ", or bfloat16 or uint8 where it is packed"
    if variables.case.slots[0].per_row:
        may_be_packed = ""

    def variable(shape, dtype="float32"):
        made = tf.Variable(tf.zeros(shape, dtype))
        kept.append(made)
        return made.handle

    kept = variables.kept = []
    return {
        "grad shape": (
            {"grad": [grads[0], tf.zeros([10, 4])]},
            "grad[1] must have shape [10,3] of var[1]. Received: [10,4].",
        ),
        "grad of fewer rows": (
            {"grad": [grads[0], tf.zeros([9, 3])]},
            "grad[1] must have shape [10,3] of var[1]. Received: [9,3].",
        ),
        "var dtype": (
            {"var": [first, variable([10, 3], "float64")]},
            "var[1] must have dtype float. Received: double.",
        ),
        "slot dtype": (
            {slot: [slots[0], variable([10, 3], "float64")]},
            f"{slot}[1] must have dtype float{may_be_packed}. Received: double.",
        ),
        "slot shape": (
            {slot: [slots[0], variable([10, 2])]},
            f"{slot}[1] must have shape {slot_shape}. Received: [10,2].",
        ),
        "uninitialized var": (
            {"var": [first, uninitialized([10, 3])]},
            "var[1] must be a variable that exists",
        ),
        "uninitialized slot": (
            {slot: [slots[0], uninitialized([10, 3])]},
            f"{slot}[1] must be a variable that exists",
        ),
        "same variable twice": (
            {"var": [first, first]},
            "Variables and slots must be different ones. Received: var[0] and "
            "var[1] are the same.",
        ),
        "slot is the variable": ({slot: [slots[0], second]}, "must be different ones"),
        "too few scales": (
            {"gradient_scale": np.ones([1])},
            "gradient_scale must have shape [2] or [0]. Received: [1].",
        ),
        "too many decays": (
            {"weight_decay": np.ones([3])},
            "weight_decay must have shape [2] or [0]. Received: [3].",
        ),
        "negative clip": ({"clip_value": -1.0}, "must be >= 0. Received: -1."),
        "nan clip": ({"clip_value": np.nan}, "must be >= 0. Received: nan."),
        "negative decay": (
            {"weight_decay": np.array([0.1, -0.5])},
            "weight_decay[1] must be a finite number >= 0. Received: -0.5.",
        ),
        "nan decay": (
            {"weight_decay": np.array([0.1, np.nan])},
            "weight_decay[1] must be a finite number >= 0. Received: nan.",
        ),
        "no variable": (
            {"var": [first, table_handle(kept)]},
            "var[1] must be a variable that exists",
        ),
        "iterations": (
            {"iterations": tf.constant(-1, tf.int64)},
            "iterations must be >= 0. Received: -1.",
        ),
        "learning rate": (
            {"learning_rate": tf.constant([0.1])},
            "learning_rate must have shape [] or [2]. Received: [1].",
        ),
        "hyperparameter": (
            {next(iter(variables.case.op_hyper(0))): np.zeros([2])},
            "must have shape []. Received: [2].",
        ),
    }


@every()  # a slot may be a row's, or absent
@pytest.mark.parametrize("name", BAD_INPUTS)
@kinds
def test_dense_op(case, name):
    variables, grads = good(case)
    inputs = bad_inputs(variables, grads)
    assert set(inputs) == set(BAD_INPUTS)
    changed, message = inputs[name]
    before = variables.bytes()
    with pytest.raises(OP_ERRORS) as error:
        variables.apply(**{"grads": grads, **rename_grad(changed)})
    assert message in str(error.value)
    assert variables.bytes() == before
    variables.apply(grads)  # no lock was left behind
    assert variables.bytes() != before


def rename_grad(changed):
    changed = dict(changed)
    if "grad" in changed:
        changed["grads"] = changed.pop("grad")
    return changed


def bad_rows(variables, grads):
    """As `bad_inputs`, for sparse steps with 4 ids each."""
    rows = [grad[:4] for grad in grads]
    ids = tf.constant([1, 2, 3, 1])
    scalars = [tf.Variable(1.0) for _ in range(len(variables.slots) + 1)]
    slots = {
        key: [values[0].handle, scalar.handle]
        for (key, values), scalar in zip(
            variables.slots.items(), scalars[1:], strict=True
        )
    }
    variables.kept = scalars
    return (
        rows,
        [ids, ids],
        {
            "index too large": (
                {"indices": [ids, tf.constant([0, 1, 10, 0])]},
                "indices[2] of var[1] must be in [0, 10). Received: 10.",
            ),
            "negative index": (
                {"indices": [ids, tf.constant([0, -1, 2, 0])]},
                "indices[1] of var[1] must be in [0, 10). Received: -1.",
            ),
            "index beyond int32": (
                {"indices": [tf.cast(ids, tf.int64), tf.constant([0, 1, 2, 2**40])]},
                f"indices[3] of var[1] must be in [0, 10). Received: {2**40}.",
            ),
            "least int64": (
                {"indices": [tf.cast(ids, tf.int64), tf.constant([-(2**63), 1, 2, 3])]},
                f"indices[0] of var[1] must be in [0, 10). Received: {-(2**63)}.",
            ),
            "index that is 32 bits of a good one": (
                {
                    "indices": [
                        tf.cast(ids, tf.int64),
                        tf.constant([2**32 + 1, 1, 2, 3]),
                    ]
                },
                f"indices[0] of var[1] must be in [0, 10). Received: {2**32 + 1}.",
            ),
            "fewer gradients than indices": (
                {"grads": [rows[0], rows[1][:3]]},
                "grad[1] must have shape [4,3] (indices[1] has 4 and var[1] has shape "
                "[10,3]). Received: [3,3].",
            ),
            "row shape": (
                {"grads": [rows[0], tf.zeros([4, 2])]},
                "grad[1] must have shape [4,3]",
            ),
            "gradient rank": (
                {"grads": [rows[0], tf.zeros([12])]},
                "grad[1] must have shape [4,3]",
            ),
            "indices rank": (
                {"indices": [ids, tf.constant([[0, 1, 2, 3]])]},
                "indices[1] must have shape [number of indices]. Received: [1,4].",
            ),
            "scalar variable": (
                {"var": [variables.var[0].handle, scalars[0].handle], **slots},
                "var[1] must have rows to have a sparse gradient. Received: a scalar.",
            ),
        },
    )


@every("name", "case")
@modes
@pytest.mark.parametrize("name", BAD_ROWS)
@kinds
def test_sparse_op(case, name, mode):
    variables, grads = good(case)
    rows, ids, changes = bad_rows(variables, grads)
    assert set(changes) == set(BAD_ROWS)
    changed, message = changes[name]
    before = variables.bytes()
    arguments = {"grads": rows, "indices": ids, "mode": mode}
    with pytest.raises(OP_ERRORS) as error:
        variables.sparse_apply(**{**arguments, **changed})
    assert message in str(error.value)
    assert variables.bytes() == before
    variables.sparse_apply(**arguments)
    assert variables.bytes() != before


@kinds
def test_unknown_mode_of_the_op(case):
    variables, grads = good(case)
    ids = [tf.range(10), tf.range(10)]
    before = variables.bytes()
    with pytest.raises(OP_ERRORS, match="lazy.*dense"):
        variables.sparse_apply(grads, ids, mode="sloppy")
    assert variables.bytes() == before


@kinds
def test_shapes_that_a_graph_learns_only_when_it_runs(case):
    variables, _ = good(case)
    before = variables.bytes()

    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec(None)])
    def dense(a, b):
        variables.apply([a, b])

    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec(None, tf.int32)])
    def sparse(values, ids):
        variables.sparse_apply([values, values], [ids, ids])

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"grad\[1\] must have"):
        dense(tf.zeros([10, 3]), tf.zeros([10]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[0\] of var"):
        sparse(tf.zeros([1, 3]), tf.constant([10]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"grad\[0\] must have"):
        sparse(tf.zeros([2, 3]), tf.constant([1]))
    assert variables.bytes() == before


@richest
def test_same_variable_twice_under_xla(case):
    variables, grads = good(case)
    before = variables.bytes()
    first = variables.var[0].handle

    @tf.function(jit_compile=True)
    def step():
        variables.apply(grads, var=[first, first])

    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        step()
    assert "Variables and slots must be different ones. Received: " in str(error.value)
    assert variables.bytes() == before


@pytest.mark.parametrize("how", ["eager", "function", "jit"])
def test_an_optional_slot_of_fewer_variables(how):
    case = cases.RICHEST[0]
    variables, grads = good(case)
    assert case.rule == "RMSprop"
    before = variables.bytes()
    changed = {"momentum": [variables.slots["momentum"][0].handle]}

    def step():
        variables.apply(grads, **changed)

    if how != "eager":
        step = tf.function(step, jit_compile=how == "jit")
    with pytest.raises(OP_ERRORS) as error:
        step()
    message = "momentum must have as many variables as var (2) or none. Received: 1."
    assert message in str(error.value)
    assert variables.bytes() == before
