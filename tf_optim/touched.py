"""Which rows of an accumulator may not be zero, under XLA: `Touched`.

A step under XLA cannot keep gradients as they came (`kept.py`), because no shape
changes there. It adds them to the accumulator, and notes the rows in a bool for each.
"""

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from tf_optim import library


def _value(handle, dtype):
    # Not by the variable, whose class may do something else first.
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)


def _bool_of_each_row(accumulator):
    with tf.init_scope(), tf.device(accumulator.device):
        # In a strategy's scope `tf.Variable` makes one for each replica.
        return ResourceVariable(
            tf.zeros(accumulator.shape[:1], tf.bool), trainable=False
        )


def _clear(accumulator, rows, variable):
    """Sets rows to zero, after the update of the variable that ends a window."""
    first = tf.reshape(_value(variable.handle, variable.dtype), [-1])[0]
    library.ops().tf_optim_clear_touched_rows(
        accumulator=accumulator.handle,
        touched=rows.handle,
        after=tf.cast(first, accumulator.dtype),
    )


class AllRows:
    """Of an accumulator whose gradients are dense: it is cleared as a whole.

    In its own memory. With zeros of XLA's making for a new value, each variable and
    slot of the step would be copied in every step, and in those that only add.
    """

    def __init__(self, accumulator):
        self.accumulator = accumulator
        self.rows = _bool_of_each_row(accumulator)

    @staticmethod
    def may_be_of(accumulator):
        """Whether the ops know its dtype, and it has rows, and not too short ones."""
        shape = accumulator.shape
        if accumulator.dtype not in (tf.float32, tf.float64):
            return False
        if not shape.num_elements():
            return False
        return shape.rank > 1 or (shape.rank == 1 and shape[0] < 2**20)

    def clear(self, variable):
        """After the update of the variable that ends a window."""
        self.rows.assign(tf.ones(self.rows.shape, tf.bool), read_value=False)
        _clear(self.accumulator, self.rows, variable)


class Touched:
    """The rows of one accumulator.

    `rows` is right before the step `step`; of another step, rows that are not zero are
    looked for, which reads the accumulator.
    """

    def __init__(self, accumulator):
        self.handle, self.dtype = accumulator.handle, accumulator.dtype
        self.shape = accumulator.shape
        self.rows = _bool_of_each_row(accumulator)
        with tf.init_scope(), tf.device(accumulator.device):
            self.step = ResourceVariable(tf.constant(-1, tf.int64), trainable=False)

    def forget(self):
        """To be called where the accumulator changes other than by these steps."""
        self.step.assign(-1, read_value=False)

    def add(self, gradient, iterations):
        """Adds a sparse gradient to the accumulator."""
        is_known = tf.equal(self.step, iterations)
        library.ops().tf_optim_add_to_accumulator(
            accumulator=self.handle,
            touched=self.rows.handle,
            is_known=is_known,
            grad=gradient.values,
            indices=gradient.indices,
        )
        self.step.assign(iterations + 1, read_value=False)

    def total(self, gradient, iterations):
        """The sum of the window that a gradient ends, which is a sparse gradient."""
        self.add(gradient, iterations)
        # Under XLA the kernel drops rows that are outside of the table.
        rows = tf.range(self.shape[0], dtype=tf.int64)
        ids = tf.where(self.rows, rows, tf.constant(-1, tf.int64))
        sums = tf.ensure_shape(_value(self.handle, self.dtype), self.shape)
        return tf.IndexedSlices(sums, ids, gradient.dense_shape)

    def clear(self, variable, iterations):
        """After the update of the variable that ends a window."""
        _clear(self, self.rows, variable)
        self.step.assign(iterations + 1, read_value=False)
