"""Random calls of the raw ops, most with something hostile in them.

Whatever comes in, the process lives; the call works, or it is a TensorFlow error, a
ValueError or a TypeError and nothing was written; and the variables are not locked
after it. What cannot be right must be an error.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from tests import cases, numerics, raw_ops
from tests.fuzz_hostile import HOSTILE, SPARSE_ONLY
from tests.fuzz_oracle import Failure

ERRORS = (tf.errors.OpError, ValueError, TypeError)
SHAPES = ((3, 2), (2,), (1,), (4, 33), (0,), (3, 0), ())
WAYS = ("eager", "eager", "eager", "function", "jit")


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
    way = draw(st.sampled_from(ways))
    names = [name for name in HOSTILE if sparse or name not in SPARSE_ONLY]
    if way == "jit":  # TensorFlow itself ends a process that compiles text
        names = [n for n in names if n not in ("gradient of text", "var of strings")]
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
        way=way,
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
