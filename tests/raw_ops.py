"""The raw list ops, called on variables made from a test's arrays."""

import numpy as np
import tensorflow as tf

from tf_optim import library, specs

LEARNING_RATE = 0.03
ITERATIONS = 4


class Variables:
    """A list of variables and their slots, from `numerics.draw` or alike."""

    def __init__(self, case, arrays):
        """Args:
        arrays: a list of `(var, slots)`.
        """
        self.case = case
        self.var = [tf.Variable(var) for var, _ in arrays]
        self.slots = {
            slot.name: [tf.Variable(slots[slot.name]) for _, slots in arrays]
            for slot in case.slots
        }

    def inputs(self):
        """The op's inputs, except gradients and indices."""
        absent = {slot.name: [] for slot in self.case.optimizer.slots}
        slots = {key: [v.handle for v in list_] for key, list_ in self.slots.items()}
        return {
            "var": [v.handle for v in self.var],
            **absent,
            **slots,
            "learning_rate": tf.constant(LEARNING_RATE, tf.float64),
            "iterations": tf.constant(ITERATIONS, tf.int64),
            **self.case.op_hyper(ITERATIONS),
            **self.case.flags,
            "gradient_scale": np.zeros([0], np.float64),
            "clip_value": 0.0,
            "weight_decay": np.zeros([0], np.float64),
            "average": [],
            "average_momentum": 0.0,
            "average_updates": np.int64(0),
            "history": [],
        }

    def apply(self, grads, **changed):
        """One dense step; `changed` inputs replace the usual ones."""
        spec = specs.SPECS[self.case.name]
        op = getattr(library.ops(), f"tf_optim_{spec.op_names[False, False]}")
        op(**{**self.inputs(), "grad": grads, **changed})

    def sparse_apply(self, grads, indices, **changed):
        """One sparse step."""
        spec = specs.SPECS[self.case.name]
        op = getattr(library.ops(), f"tf_optim_{spec.op_names[True, False]}")
        changed = {
            "indices": indices,
            "average_rows": [],
            "sorted_ids": [],
            **changed,
        }
        op(**{**self.inputs(), "grad": grads, **changed})

    def after(self, i):
        """`(var, slots)` of variable i, as arrays."""
        return self.var[i].numpy(), {k: v[i].numpy() for k, v in self.slots.items()}

    def bytes(self):
        """Everything that a step may write."""
        lists = [self.var, *self.slots.values()]
        return [v.numpy().tobytes() for list_ in lists for v in list_]
