"""Gradients of a window that are kept beside their accumulator, in Keras 3.

Adding rows to a variable of the table's shape costs a read and a write of each. So the
op AccumulateRows keeps a step's gradient as it is, and the step that ends the window
sums all of them, as it sums the rows of ids that a gradient repeats. Whoever reads
or sets the accumulator gets what is kept added first, so that to everybody but the ops
it is stock's: its variable is of a class of ours.
"""

import contextlib
import functools
import threading

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from tf_optim import checks, library, own_reads, prepared
from tf_optim.touched import AllRows, Touched


def has_ops(accumulator):
    """Whether rows are added to an accumulator by ops of ours."""
    return not checks.is_compiled_by_xla() and _has_rows(accumulator)


def _has_rows(accumulator):
    is_on_gpu = "GPU" in accumulator.handle.device
    return not is_on_gpu and accumulator.dtype in (tf.float32, tf.float64)


def named_rows(accumulator):
    """A bool for each row: whether the window has named it.

    A sum of 0 is -0 then, where ops of ours have added it up.
    """
    inner = list(range(1, accumulator.shape.rank))
    bits = {2: tf.int16, 4: tf.int32, 8: tf.int64}[accumulator.dtype.size]
    sums = tf.bitcast(tf.convert_to_tensor(accumulator), bits)
    return tf.reduce_any(tf.not_equal(sums, 0), inner)


def _is_zero(accumulator, iterations):
    if not accumulator.is_initialized():  # made by the tf.function being traced
        return int(iterations) == 0
    return not bool(tf.reduce_any(named_rows(accumulator)))


_FIRST = 4  # where the rows' numbers begin


def _numbers(step, count, may_keep):
    """The first numbers of `Kept.rows`, none of whose rows is kept."""
    return tf.stack([tf.cast(n, tf.int64) for n in (step, count, 0, may_keep)])


class Kept:
    """What a window has added to an accumulator, or has kept for it.

    `rows` says which rows that is, and `gradients` has those that are kept, as the op
    AccumulateRows says. The first number of `rows` is the optimizer's count of steps
    if every step since the accumulator was zero has been seen.
    """

    def __init__(self, accumulator, iterations, may_keep):
        # Not the variable: a circle would keep its memory for a while.
        self.handle, self.dtype = accumulator.handle, accumulator.dtype
        self.watched = _has_rows(accumulator) and prepared.is_plain(accumulator)
        self.touched = None  # a `Touched`, once there is a step under XLA
        with tf.init_scope(), tf.device(accumulator.device):
            zero = tf.executing_eagerly() and _is_zero(accumulator, iterations)
            may_keep = may_keep and self.watched
            # In a strategy's scope `tf.Variable` makes one for each replica.
            self.rows = ResourceVariable(
                _numbers(iterations if zero else -1, 0, may_keep),
                trainable=False,
                shape=[None],
            )
            shape = tf.TensorShape([None, *accumulator.shape[1:]])
            self.gradients = ResourceVariable(
                tf.zeros([0, *shape[1:]], accumulator.dtype),
                trainable=False,
                shape=shape,
            )
        if self.watched:
            accumulator._tf_optim_kept = self
            accumulator.__class__ = _class_for(type(accumulator))

    def add(self):
        """Adds what is kept to the accumulator. Returns the ops; none in eager mode."""
        if not self.watched:
            return []
        op = library.ops().tf_optim_add_kept_rows(**self.inputs([self]), T=self.dtype)
        return [] if op is None else [op]

    def forget(self):
        """To be called where the accumulator may have changed other than by a step.

        Adds what is kept, and then no longer knows which rows are not zero.
        """
        if self.touched is not None:
            self.touched.forget()
        with tf.control_dependencies(self.add()):
            self.rows.assign(_numbers(-1, 0, self.rows[3]), read_value=False)

    def keep_nothing(self):
        """From now on all gradients are added to the accumulator."""
        with tf.init_scope():
            self.add()
            zero = tf.zeros([1], tf.int64)
            self.rows.assign(tf.tensor_scatter_nd_update(self.rows, [[3]], zero))

    @staticmethod
    def inputs(members):
        """The first inputs of the ops."""
        return {
            "accumulator": [each.handle for each in members],
            "touched": [each.rows.handle for each in members],
            "kept": [each.gradients.handle for each in members],
        }

    def clear(self, iterations):
        """After the step that ends a window."""
        numbers = _numbers(iterations + 1, 0, self.rows[3])
        self.rows.assign(numbers, read_value=False)

    # What the ops do, where there are none (on a GPU): nothing is kept.

    def known(self, iterations):
        """The rows' numbers, and whether these are all."""
        rows = tf.convert_to_tensor(self.rows)
        return rows[_FIRST : _FIRST + rows[1]], tf.equal(rows[0], iterations)

    def remember(self, ids, iterations):
        """Returns the op that records rows of a step that ends no window."""
        before, is_known = self.known(iterations)
        count = tf.size(before, tf.int64) + tf.size(ids, tf.int64)
        rows = tf.concat([_numbers(iterations + 1, count, False), before, ids], 0)
        unknown = _numbers(-1, 0, False)
        rows = tf.cond(is_known, lambda: rows, lambda: unknown)
        return self.rows.assign(rows, read_value=False)


_MAKING = threading.RLock()  # not the memory's own: optimizers are copied


class Memory:
    """The `Kept` of each accumulator, by its variable's index and its device's place.

    Not a dict of the optimizer's own, where Keras and checkpoints would find it.
    """

    def __init__(self):
        self._kept = {}
        self._bare = set()  # keys of accumulators that some step knows alone
        self._whole = {}

    def of(self, key, accumulator, iterations):
        """What is kept for an accumulator of ours."""
        with _MAKING:
            found = self.get(key)
            if found is None or found.handle is not accumulator.handle:
                may_keep = key not in self._bare
                found = self._kept[key] = Kept(accumulator, iterations, may_keep)
            return found

    def touched(self, key, accumulator, iterations):
        """The `Touched` of an accumulator of ours.

        None for one of which nobody says where it is set, and for one without elements.
        """
        found = self.of(key, accumulator, iterations)
        has_one = found.watched and accumulator.shape.num_elements()
        if found.touched is None and has_one:
            found.touched = Touched(accumulator)
        return found.touched

    def all_rows(self, key, accumulator):
        """The `AllRows` of an accumulator."""
        with _MAKING:
            found = self._whole.get(key)
            if found is None or found.accumulator is not accumulator:
                found = self._whole[key] = AllRows(accumulator)
            return found

    def get(self, key):
        """What `of` has returned; None where there is none yet."""
        return self._kept.get(key)

    def keep_nothing(self, key):
        """For a traced step that knows the accumulator alone, now and later."""
        with _MAKING:
            if key not in self._bare:
                self._bare.add(key)
                if key in self._kept:
                    self._kept[key].keep_nothing()

    def forget(self):
        """To be called where accumulators have changed other than by a step."""
        for kept in self._kept.values():
            kept.forget()

    def add(self):
        """Adds all that is kept to the accumulators."""
        for kept in self._kept.values():
            kept.add()

    def variables(self):
        """By name: a saved function needs all of its variables."""
        found = {}
        for (index, place), kept in self._kept.items():
            found[f"touched_rows_{index}_{place}"] = kept.rows
            found[f"kept_rows_{index}_{place}"] = kept.gradients
            if kept.touched is not None:
                found[f"not_zero_{index}_{place}"] = kept.touched.rows
                found[f"not_zero_step_{index}_{place}"] = kept.touched.step
        for (index, place), whole in self._whole.items():
            found[f"all_rows_{index}_{place}"] = whole.rows
        return found


# --- the accumulator's variable


class _Accumulator(own_reads.OwnReads):
    """Mixed into the class of an accumulator's variable."""

    def _around(self, sets):
        if checks.is_compiled_by_xla():
            self._tf_optim_kept.keep_nothing()
            if sets and self._tf_optim_kept.touched is not None:
                self._tf_optim_kept.touched.forget()
            return contextlib.nullcontext()
        ops = self._tf_optim_kept.add()
        if sets:
            self._tf_optim_kept.forget()
        return tf.control_dependencies(ops)

    def sparse_read(self, indices, name=None):
        """Rows."""
        with self._around(sets=False):
            return super().sparse_read(indices, name)


@functools.cache
def _class_for(base):
    return own_reads.class_for(_Accumulator, base)
