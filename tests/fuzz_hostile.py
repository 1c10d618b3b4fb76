"""What can be wrong with a call of a raw op: name -> what does it to the inputs.

Each takes the `Inputs` of tests/fuzz_ops.py and a number to choose by, spoils them,
and says whether the call must be refused for it.
"""

import math

import numpy as np
import tensorflow as tf

from tests import numerics
from tf_optim import specs

HYPER_VALUES = (math.nan, math.inf, -math.inf, -1.0, 2.0, 1e308, 5e-324, 0.0, 1.0)
IDS = (-1, -(2**31), 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63))


def _slot(inputs, value):
    """The list of one slot; by name, for messages and mutation."""
    names = [slot.name for slot in inputs.call.case.slots]
    return inputs.lists[names[value % len(names)]] if names else None


def _var_twice(inputs, value):
    var = inputs.lists["var"]
    if len(var) > 1:
        var[-1] = var[0]
        inputs.refused()


def _slot_is_var(inputs, value):
    slot, var = _slot(inputs, value), inputs.lists["var"]
    if slot and var:
        slot[0] = var[-1]
        inputs.refused()


def _slot_is_slot(inputs, value):
    slot, other = _slot(inputs, value), _slot(inputs, value + 1)
    if slot and other and slot is not other:
        slot[0] = other[0]
        inputs.refused()


def _short(key):
    def spoil(inputs, value):
        given = {
            "grad": inputs.grads,
            "ids": inputs.ids,
            "slot": _slot(inputs, value),
            "var": inputs.lists["var"],
        }[key]
        if given:
            given.pop()
            inputs.refused()

    return spoil


def _in_var(make, must=True):
    """Another variable in the place of one that is there."""

    def spoil(inputs, value):
        if inputs.lists["var"]:
            inputs.lists["var"][-1] = make(inputs)
            inputs.refused(must)

    return spoil


def _in_slot(make, must=True):
    def spoil(inputs, value):
        if slot := _slot(inputs, value):
            slot[-1] = make(inputs)
            inputs.refused(must)

    return spoil


def _other_dtype(inputs):
    other = "float64" if inputs.call.dtype != "float64" else "float32"
    return inputs.new(tf.zeros(inputs.call.shapes[-1], other))


def _other_shape(inputs):
    dtype = numerics.slot_dtype(inputs.call.dtype)
    return inputs.new(np.zeros((*inputs.call.shapes[-1], 2), dtype))


def _uninitialized(inputs):
    shape, dtype = inputs.call.shapes[-1], inputs.call.dtype
    return tf.raw_ops.VarHandleOp(dtype=dtype, shape=shape, shared_name="nothing here")


def _destroyed(inputs):
    handle = _uninitialized(inputs)
    value = tf.zeros(inputs.call.shapes[-1], inputs.call.dtype)
    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    tf.raw_ops.DestroyResourceOp(resource=handle)
    return handle


def _hash_table(inputs):
    del inputs
    return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.float32)


def _strings(inputs):
    return inputs.new(tf.fill(inputs.call.shapes[-1], "text"))


def _grads(make):
    def spoil(inputs, value):
        if inputs.grads:
            inputs.grads[-1] = make(inputs.grads[-1])
            inputs.refused()

    return spoil


def _ids(make):
    def spoil(inputs, value):
        if inputs.ids:
            inputs.ids[-1] = make(inputs.ids[-1])
            inputs.refused()

    return spoil


def _id(inputs, value):
    """One id that no variable has; its row of the gradient is there."""
    if not inputs.ids:
        return
    number, ids = IDS[value % len(IDS)], inputs.ids[-1]
    wide = all(each.dtype == np.int64 for each in inputs.ids)
    limits = np.iinfo(np.int64 if wide else np.int32)
    if ids.size and ids.ndim == 1 and limits.min <= number <= limits.max:
        inputs.ids[-1] = np.array([number, *ids[1:]], ids.dtype)
        inputs.refused()


def _hyper(inputs, value):
    spec = specs.SPECS[inputs.call.case.name]
    if not spec.hyper:
        return
    hyper = spec.hyper[value % len(spec.hyper)]
    number = HYPER_VALUES[value // len(spec.hyper) % len(HYPER_VALUES)]
    inputs.changed[hyper.name] = number
    try:
        hyper.check(number)
    except ValueError:
        inputs.refused()


def _hyper_of_kind(make):
    def spoil(inputs, value):
        names = specs.SPECS[inputs.call.case.name].hyper_names
        inputs.changed[names[value % len(names)]] = make()
        inputs.refused()

    return spoil


def _input(name, *values, must=True):
    def spoil(inputs, value):
        inputs.changed[name] = values[value % len(values)]
        inputs.refused(must)

    return spoil


def _tail(name, dtype, number, must):
    """A number in `gradient_scale` or `weight_decay`."""

    def spoil(inputs, value):
        del value
        count = len(inputs.call.shapes)
        inputs.changed[name] = np.full([count], number, dtype)
        inputs.refused(must)

    return spoil


def _int64(number):
    return tf.constant(number, tf.int64)


HOSTILE = {
    "var twice": _var_twice,
    "slot is var": _slot_is_var,
    "slot is slot": _slot_is_slot,
    "one variable less": _short("var"),
    "one slot less": _short("slot"),
    "one gradient less": _short("grad"),
    "one list of ids less": _short("ids"),
    "var of another dtype": _in_var(_other_dtype),
    "var of another shape": _in_var(_other_shape),
    "var without value": _in_var(_uninitialized),
    "var destroyed": _in_var(_destroyed),
    "var of strings": _in_var(_strings),
    "var is a table": _in_var(_hash_table),
    "slot of another dtype": _in_slot(_other_dtype),
    "slot of another shape": _in_slot(_other_shape),
    "slot without value": _in_slot(_uninitialized),
    "slot destroyed": _in_slot(_destroyed),
    "slot of strings": _in_slot(_strings),
    "slot is a table": _in_slot(_hash_table),
    "gradient of another shape": _grads(lambda grad: grad[..., None]),
    "gradient of one more row": _grads(
        lambda grad: np.ones(
            [len(grad) + 1 if grad.ndim else 2, *grad.shape[1:]], grad.dtype
        )
    ),
    "gradient of integers": _grads(lambda grad: tf.zeros(grad.shape, tf.int32)),
    "gradient of text": _grads(lambda grad: np.full(grad.shape, "a")),
    "id": _id,
    "ids of rank 2": _ids(lambda ids: ids[None]),
    "ids are floats": _ids(lambda ids: tf.cast(ids, tf.float32)),
    "ids are one": _ids(lambda ids: np.array(0, ids.dtype)),
    "ids of one more": _ids(lambda ids: np.append(ids, ids.dtype.type(0))),
    "hyperparameter": _hyper,
    "hyperparameters in a list": _hyper_of_kind(lambda: [0.5, 0.5]),
    "hyperparameter in words": _hyper_of_kind(lambda: "a"),
    "no hyperparameter": _hyper_of_kind(lambda: None),
    "learning_rate": _input("learning_rate", math.nan, math.inf, -1.0, must=False),
    "learning_rates": _input("learning_rate", [0.1], np.zeros([0], np.float32), "a"),
    "iterations": _input("iterations", _int64(-1), _int64(-(2**63)), 0.5, [1, 2]),
    "many iterations": _input("iterations", _int64(2**63 - 1), must=False),
    "scales": _input("gradient_scale", np.ones([7], np.float32), 1.0, "a"),
    "scale nan": _tail("gradient_scale", np.float64, math.nan, must=False),
    "decays": _input("weight_decay", np.ones([7]), 1.0, np.ones([1, 1])),
    "decay nan": _tail("weight_decay", np.float64, math.nan, must=False),
    "decay negative": _tail("weight_decay", np.float64, -1.0, must=False),
    "clip": _input("clip_value", math.nan, -1.0, -math.inf, [1.0], "a"),
    "sorted ids": _input(
        "sorted_ids",
        [np.zeros([2], np.uint64)],
        [np.full([4], 2**64 - 1, np.uint64), np.zeros([1, 3], np.uint64)],
        7,
        must=False,
    ),
    "mode": _input("mode", "sloppy", "", "LAZY", 7),
    "locking": _input("use_locking", "maybe", 7),
}
SPARSE_ONLY = (
    "one list of ids less",
    "id",
    "ids of rank 2",
    "ids are floats",
    "ids are one",
    "ids of one more",
    "sorted ids",
    "mode",
)
