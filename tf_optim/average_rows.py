"""What each row of a table has seen of its average: it is behind where a row lies idle.

Kept outside of checkpoints. Lazy steps bring along the averages of the rows that they
name, and nothing else: see averages.py.
"""

import dataclasses

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from tf_optim import checks


@dataclasses.dataclass
class Numbers:
    """What a step tells its op of the averages, and what rows are counted by.

    Attributes:
        kind: "moving", "mean" or "slow", as the op has it.
        begins: so many updates set a moving average to the variable.
        momentum: what an update keeps of the average, a float64 scalar; 1 where the
            step is none.
        count: how many updates were done before the step, int64.
        last: the same behind it.
        unknown: what rows have seen of which nothing is known.
    """

    kind: str
    begins: int
    momentum: tf.Tensor
    count: tf.Tensor | None = None
    last: tf.Tensor | None = None
    unknown: tf.Tensor | None = None


class Seen:
    """How many updates the average of each row of a table has seen.

    `rows` says so in updates that were counted up to `step`; where that is -1 every
    row has seen all of them. The optimizer's count may be another one by now: a
    function that was traced before there was this has taken steps, or somebody has
    set it.
    """

    def __init__(self, variable, average):
        self.variable, self.average = variable, average
        self.read_at = None  # the step at which all rows were brought up to date
        with tf.init_scope(), tf.device(variable.device):
            shape = variable.shape[:1]
            # No `tf.Variable`: a function makes one in its first call alone.
            self.rows = ResourceVariable(tf.zeros(shape, tf.int32), trainable=False)
            self.step = ResourceVariable(tf.constant(-1, tf.int64), trainable=False)

    def is_known(self, count):
        return tf.equal(self.step, count)

    def all_have(self, count):
        rows = tf.cast(count, tf.int32)
        return self.rows.assign(tf.fill(self.rows.shape, rows), read_value=False)

    def settle(self, numbers):
        """Brings all rows up to date, if any may not be. Returns the ops."""

        def bring():
            ops = self.bring_up_to_date(tf.identity(self.step), numbers)
            with tf.control_dependencies(in_graph(ops)):
                return [*ops, self.step.assign(-1, read_value=False)]

        return [unless(self.step < 0, bring)]

    def count_from(self, numbers):
        """Counts on from a step's numbers. Returns the ops."""
        with tf.control_dependencies(in_graph(self.settle(numbers))):
            return [self.all_have(numbers.unknown)]

    def bring_up_to_date(self, count, numbers):
        """Returns the ops that do what `KeptBy` of cc/drivers/average.h says."""
        seen = tf.cast(self.rows, tf.int64)
        if numbers.kind == "mean":
            kept = tf.cast(seen, tf.float64) / tf.cast(count, tf.float64)
        else:
            kept = tf.pow(numbers.momentum, tf.cast(count - seen, tf.float64))
            begins = tf.constant(numbers.begins, tf.int64)
            kept = tf.where(seen < tf.minimum(begins, count), tf.zeros_like(kept), kept)
        kept = tf.where(seen >= count, tf.ones_like(kept), kept)
        kept = tf.reshape(kept, [-1] + [1] * (self.variable.shape.rank - 1))
        average = moved(self.average, self.variable, kept)
        with tf.control_dependencies([average]):
            return [
                self.average.assign(average, read_value=False),
                self.all_have(count),
            ]


class Touched(Seen):
    """Which rows steps have named since slow weights were last given to all.

    They are those that have seen one update more than were done. No others have moved.
    """

    def settle(self, numbers):
        """What comes may move any row. Returns the ops."""
        del numbers
        return [self.step.assign(-1, read_value=False)]

    def bring_up_to_date(self, count, numbers):
        """Nothing: what was not named equals its slow weights."""
        del count, numbers
        return []


class Memory:
    """The `Seen` of each table, by the variable's index; hidden from checkpoints."""

    def __init__(self):
        self.tables = {}
        # Variables of which a function moves the whole average, and the variable: it
        # was traced when there was no `Seen` that it would have asked.
        self.moved_whole = set()

    def forget(self):
        """To be called where averages have changed other than by a step."""
        for seen in self.tables.values():
            seen.step.assign(-1)
            seen.read_at = None

    def variables(self):
        """By name: a saved function needs all of its variables."""
        found = {}
        for index, seen in self.tables.items():
            found[f"average_rows_{index}"] = seen.rows
            found[f"average_step_{index}"] = seen.step
        return found


def moved(average, variable, kept):
    """The average after an update that keeps so much of it, in its own dtype."""
    dtype = tf.float64 if average.dtype == tf.float64 else tf.float32
    kept, taken = tf.cast(kept, dtype), tf.cast(1.0 - kept, dtype)
    before = tf.cast(average, dtype)
    after = kept * before + taken * tf.cast(variable, dtype)
    # None of an infinite variable is 0 and not NaN.
    return tf.cast(tf.where(taken > 0, after, before), average.dtype)


def in_graph(ops):
    return [op for op in ops if isinstance(op, (tf.Operation, tf.Tensor))]


def unless(condition, function):
    """Calls the function, which returns ops, unless the condition holds."""

    def call(*_):
        with tf.control_dependencies(in_graph(function())):
            return tf.constant(True)

    if checks.is_compiled_by_xla():
        # Out of a branch XLA takes what costs a table (a power for each row): it is
        # computed in each step.
        return tf.while_loop(tf.logical_not, call, (condition,))[0]
    return tf.cond(condition, lambda: tf.constant(False), call)
