"""What kernels are given in tests: arrays with guard bytes around them.

No TensorFlow here: tests/gpu_check.py runs where there is none.
"""

MARGIN = 128  # bytes on both sides
GUARD = 0xA5


class State:
    """Guarded copies of a variable, its slots and its gradient.

    `guarded`, of the subclass, makes one: of `(values, misalignment)`, with
    `array` and `intact()`.
    """

    guarded = None

    def __init__(self, var, slots, grad, indices=None, offset=0):
        # Every array at a misalignment of its own.
        offsets = [(offset * (2 * i + 1) + i * (offset > 0)) % 9 for i in range(9)]
        self.var = self.guarded(var, offset)
        self.grad = self.guarded(grad, offsets[1])
        self.slots = {
            key: self.guarded(value, offsets[2 + i])
            for i, (key, value) in enumerate(slots.items())
        }
        self.indices = None if indices is None else self.guarded(indices, offsets[8])

    def guards(self):
        inputs = [self.var, self.grad, *self.slots.values()]
        return inputs + ([] if self.indices is None else [self.indices])

    def after(self):
        return self.var.array, {k: v.array for k, v in self.slots.items()}

    def result(self):
        var, slots = self.after()
        return {"var": var} | slots
