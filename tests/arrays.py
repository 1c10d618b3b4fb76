"""Arrays with guards around them, given to the kernels of tf_optim._native."""

import numpy as np

from tests import guarded, numerics
from tests.guarded import GUARD, MARGIN
from tf_optim import library

native = library.native()

ISAS = native.isas()
LEARNING_RATE = 0.03
ITERATIONS = 4


class Guarded:
    """An array at a chosen misalignment, with guard bytes on both sides."""

    def __init__(self, values, offset=0):
        values = np.ascontiguousarray(values)
        self.raw = np.full(values.nbytes + 2 * MARGIN + 256, GUARD, np.uint8)
        self.first = -self.raw.ctypes.data % 64 + MARGIN
        self.first += offset * values.itemsize
        self.last = self.first + values.nbytes
        view = self.raw[self.first : self.last].view(values.dtype)
        self.array = view.reshape(values.shape)
        self.array[...] = values

    def intact(self):
        outside = np.concatenate([self.raw[: self.first], self.raw[self.last :]])
        return bool((outside == GUARD).all())


class State(guarded.State):
    guarded = Guarded

    def run(self, case, **options):
        arguments = {
            "rule": case.rule,
            "var": [self.var.array],
            "slots": {key: [value.array] for key, value in self.slots.items()},
            "grad": [self.grad.array],
            "hyper": case.op_hyper(ITERATIONS),
            "flags": case.flags,
            "learning_rate": LEARNING_RATE,
            "iterations": ITERATIONS,
            **options,
        }
        if self.indices is None:
            native.dense_apply(**arguments)
        else:
            native.sparse_apply(indices=[self.indices.array], **arguments)
        return self


def assert_same(left, right, what):
    for key, value in left.items():
        assert numerics.same_bits(value, right[key]), f"{key} differs: {what}"


def assert_same_step(case, left, right, what):
    """The same bits; but norms of a variable may be summed in another order, which
    float64 shows in its last digits."""
    if case.scope != "variable":
        assert_same(left, right, what)
        return
    for key, value in left.items():
        kind = np.float64 if value.dtype == np.float64 else np.float32
        a, b = (np.asarray(x).astype(kind) for x in (value, right[key]))
        limit = 4 * np.finfo(kind).eps
        np.testing.assert_allclose(a, b, rtol=limit, atol=limit, err_msg=what)
