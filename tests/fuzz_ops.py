"""Random calls of the raw ops, most with something hostile in them.

Whatever comes in, the process lives; the call works, or it is a TensorFlow error, a
ValueError or a TypeError and nothing was written; and the variables are not locked
after it. What cannot be right must be an error.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from tests import cases, numerics, raw_ops
from tests.fuzz_oracle import Failure
from tf_optim import specs

ERRORS = (tf.errors.OpError, ValueError, TypeError)
SHAPES = ((3, 2), (2,), (1,), (4, 33), (0,), (3, 0), ())
WAYS = ("eager", "eager", "eager", "function", "jit")
HYPER_VALUES = (math.nan, math.inf, -math.inf, -1.0, 2.0, 1e308, 5e-324, 0.0, 1.0)
IDS = (-1, -(2**31), 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63))


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of one op.

    Attributes:
      case: the optimizer and its options.
      dtype: of the variables.
      shapes: one for each variable.
      sparse: which op.
      index_dtype, ids, mode: of a sparse one; ids for each variable.
      way: "eager", "function" (which does not know shapes) or "jit".
      hostile: `(name, value)` pairs, done to the inputs in turn.
    """

    case: cases.Case
    dtype: str
    shapes: tuple
    sparse: bool
    index_dtype: str
    ids: tuple
    mode: str
    use_locking: bool
    way: str
    hostile: tuple


class Inputs:
    """The inputs of a call, to be spoiled, and whether they must be refused."""

    def __init__(self, call):
        rng = np.random.default_rng(1)
        self.call, self.must_fail, self.changed = call, False, {}
        self.drawn = [numerics.draw(rng, call.case, s, call.dtype) for s in call.shapes]
        arrays = [(var, slots) for var, slots, _ in self.drawn]
        self.variables = raw_ops.Variables(call.case, arrays)
        self.kept = []  # or their handles would name nothing
        self.grads = [grad for _, _, grad in self.drawn]
        self.ids = []
        if call.sparse:
            self.ids = [np.array(ids, call.index_dtype) for ids in call.ids]
            self.grads = [
                rng.normal(size=(len(ids), *shape[1:])).astype(grad.dtype)
                for ids, shape, grad in zip(
                    call.ids, call.shapes, self.grads, strict=True
                )
            ]
        self.good_grads, self.good_ids = list(self.grads), list(self.ids)
        inputs = self.variables.inputs()
        self.lists = {
            key: list(inputs[key])
            for key in ("var", *(slot.name for slot in call.case.optimizer.slots))
        }
        for name, value in call.hostile:
            HOSTILE[name](self, value)

    def refused(self, must=True):
        """Says that the call must fail. XLA cannot, once it has compiled."""
        self.must_fail |= must and self.call.way != "jit"

    def new(self, value, **options):
        """The handle of a variable that is not one of the step's."""
        variable = tf.Variable(value, **options)
        self.kept.append(variable)
        return variable.handle

    def send(self, grads, ids, changed):
        """Calls the op."""
        call, variables = self.call, self.variables
        changed = {"use_locking": call.use_locking, **changed}
        if call.sparse:
            variables.sparse_apply(grads, ids, **{"mode": call.mode, **changed})
        else:
            variables.apply(grads, **changed)

    def apply(self):
        """Calls the op as the call says."""
        changed = {**self.lists, **self.changed}
        if self.call.way == "eager":
            self.send(self.grads, self.ids, changed)
            return
        tensors = [tf.convert_to_tensor(each) for each in (*self.grads, *self.ids)]
        count, jit = len(self.grads), self.call.way == "jit"

        def step(*given):
            self.send(list(given[:count]), list(given[count:]), changed)

        signature = None if jit else [tf.TensorSpec(None, t.dtype) for t in tensors]
        tf.function(step, input_signature=signature, jit_compile=jit)(*tensors)

    def bytes(self):
        """All that a step may write."""
        lists = [self.variables.var, *self.variables.slots.values(), self.kept]
        arrays = [np.asarray(v.numpy()) for each in lists for v in each]
        return [a.tolist() if a.dtype == object else a.tobytes() for a in arrays]


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
    "mode",
)


def _what(hostile):
    """Of two things that spoil one input the second would undo the first."""
    return hostile[0].split()[-1 if hostile[0].startswith("many") else 0]


@st.composite
def calls(draw, ways=WAYS):
    """Any `Call`."""
    case = draw(st.sampled_from(cases.CASES))
    sparse = draw(st.booleans())
    shapes = [shape for shape in SHAPES if shape or not sparse]
    shapes = tuple(draw(st.lists(st.sampled_from(shapes), min_size=1, max_size=3)))
    ids = [()] * len(shapes)
    if sparse:
        ids = [
            draw(st.lists(st.integers(0, max(shape[0] - 1, 0)), max_size=5))
            if shape[0]
            else ()
            for shape in shapes
        ]
    names = [name for name in HOSTILE if sparse or name not in SPARSE_ONLY]
    hostile = st.tuples(st.sampled_from(names), st.integers(0, 99))
    return Call(
        case=case,
        dtype=draw(st.sampled_from(cases.DTYPES)),
        shapes=shapes,
        sparse=sparse,
        index_dtype=draw(st.sampled_from(cases.INDEX_DTYPES)),
        ids=tuple(map(tuple, ids)),
        mode=draw(st.sampled_from(["lazy", "dense"])),
        use_locking=draw(st.booleans()),
        way=draw(st.sampled_from(ways)),
        hostile=tuple(draw(st.lists(hostile, max_size=2, unique_by=_what))),
    )


def run(call):
    """Makes a call.

    Raises:
      Failure: if it is not refused or done as it should be.
    """
    try:
        inputs = Inputs(call)
    except (tf.errors.OpError, TypeError) as error:
        raise RuntimeError(f"this call cannot be made: {call}") from error
    before = inputs.bytes()
    try:
        inputs.apply()
    except ERRORS as error:
        if inputs.bytes() != before:
            text = f"{type(error).__name__}: {error}"
            raise Failure("an error, and yet something changed", 0, text) from error
        if not call.hostile:
            raise Failure("an error", 0, f"{type(error).__name__}: {error}") from error
    else:
        if inputs.must_fail:
            raise Failure("no error", 0, f"hostile: {call.hostile}")
        if not call.hostile:
            _check(inputs)
    inputs.send(inputs.good_grads, inputs.good_ids, {})  # no lock was left behind


def _check(inputs):
    from tests.sparse_test import assert_sparse_step

    call = inputs.call
    for j, (var, slots, _) in enumerate(inputs.drawn):
        step = (raw_ops.LEARNING_RATE, raw_ops.ITERATIONS)
        after, grad = inputs.variables.after(j), inputs.good_grads[j]
        grad = np.asarray(grad)
        try:
            if call.sparse:
                ids, mode = inputs.good_ids[j], call.mode
                assert_sparse_step(
                    call.case, (var, slots), after, grad, ids, mode, *step
                )
            else:
                numerics.assert_step(call.case, (var, slots), after, grad, *step)
        except AssertionError as error:
            raise Failure("a wrong result", 0, str(error)) from error


def printed(call):
    """The call as Python."""
    fields = [
        f"    {field.name}={getattr(call, field.name)!r},"
        for field in dataclasses.fields(call)
        if field.name != "case"
    ]
    find = f'next(case for case in cases.CASES if str(case) == "{call.case}")'
    head = ["from math import inf, nan", "from tests import cases, fuzz_ops", ""]
    body = ["fuzz_ops.run(fuzz_ops.Call(", f"    case={find},", *fields, "))"]
    return "\n".join(head + body)
