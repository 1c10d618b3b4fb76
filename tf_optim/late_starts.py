"""Slots that start at their variable, made while that has no value yet.

A function that makes variables, such as that of `fit` with a model that is not built,
is traced before they have values, and once more when they have: then the slots start.
"""

import numpy as np
import tensorflow as tf


class Memory:
    """The slots of an optimizer that have not started."""

    def __init__(self):
        self._pairs = []

    def add(self, slot, variable):
        """Keeps a slot, which is 0 for now, and the `tf.Variable` it is to start at."""
        self._pairs.append((slot, variable))

    def begin(self):
        """Starts the slots of variables that have values.

        Returns:
            Ops that a step has to come after. They are errors: a trace of variables
            without values is run where these depend on what a function was given.
        """
        if not self._pairs:
            return []
        with tf.init_scope():
            late = [pair for pair in self._pairs if not pair[1].is_initialized()]
            for slot, variable in self._pairs:
                # A checkpoint may have given it a value when it was made.
                if variable.is_initialized() and not np.any(slot.numpy()):
                    slot.assign(tf.cast(variable, slot.dtype))
        self._pairs = late
        if not late:
            return []
        said = (
            f"'{late[0][1].name}' must have a value before the optimizer is built, "
            "whose slots start there: make the variable outside of the tf.function. "
            "Received: one without a value."
        )
        return [tf.debugging.Assert(tf.constant(False), [said])]
