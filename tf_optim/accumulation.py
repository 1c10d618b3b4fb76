"""Gradient accumulation for sparse gradients, in Keras 3 (tf_keras has none).

Stock's accumulators stay what they are, variables of the shape of the whole
table, so checkpoints interchange. A step scatters its rows into them. Which rows
that were is remembered beside them, outside of checkpoints, so that the step
that ends a window reads and clears those rows alone: one sparse gradient, in which
every row occurs once. Where it is not known (after a restore in the middle of a
window, or a dense gradient in it) the rows that are not zero are looked for.
"""

import tensorflow as tf

from tf_optim import checks, fused


class DivisibleSlices(tf.IndexedSlices):
    """IndexedSlices that stock's `gradient / number` can divide."""

    def __truediv__(self, divisor):
        return tf.IndexedSlices(self.values / divisor, self.indices, self.dense_shape)


class _AddableSlices(tf.IndexedSlices):
    """A gradient that stock's `gradient + accumulator` adds up by rows."""

    add = None

    def __add__(self, accumulator):
        return self.add(self, accumulator)


def _is_sparse(gradient):
    return isinstance(gradient, tf.IndexedSlices)


def _rows_not_zero(accumulator):
    """A bool for each row."""
    inner = list(range(1, accumulator.shape.rank))
    return tf.reduce_any(tf.not_equal(accumulator, 0), inner)


def _is_zero(accumulator, iterations):
    if not accumulator.is_initialized():  # made by the tf.function being traced
        return int(iterations) == 0
    return not bool(tf.reduce_any(_rows_not_zero(accumulator)))


class _TouchedRows:
    """The rows of an accumulator that may be other than zero.

    They are `ids`, provided that `step` is the optimizer's count of steps: then
    every step since the accumulator was zero has been seen.
    """

    def __init__(self, accumulator, iterations):
        with tf.init_scope():
            zero = tf.executing_eagerly() and _is_zero(accumulator, iterations)
            self.ids = tf.Variable(
                tf.zeros([0], tf.int64), shape=[None], trainable=False
            )
            self.step = tf.Variable(iterations if zero else -1, False, dtype=tf.int64)

    def forget(self):
        self.step.assign(-1)

    def is_known(self, iterations):
        return tf.equal(self.step, iterations)

    def add(self, ids, iterations):
        """Returns the ops that record rows of a step that ends no window."""
        known = self.is_known(iterations)
        before = tf.cond(known, self.ids.read_value, lambda: tf.zeros([0], tf.int64))
        with tf.control_dependencies([known]):
            return [
                self.ids.assign(tf.concat([before, ids], 0), read_value=False),
                self.step.assign(tf.where(known, iterations + 1, -1), read_value=False),
            ]

    def clear(self, iterations):
        self.ids.assign(tf.zeros([0], tf.int64))
        self.step.assign(iterations + 1)


class _Memory:
    """By the variable's index; not in a dict of the optimizer's own, where Keras
    and checkpoints would find it."""

    def __init__(self):
        self.touched = {}  # _TouchedRows
        self.rows_to_clear = {}  # from sum to reset, within one step


class Accumulation:
    """Mixed into the Keras 3 adapter."""

    _memory = None

    def forget_touched_rows(self):
        """To be called where accumulators have changed other than by a step.

        Restoring, `set_weights` and loading do it. Who assigns to `variables` by
        hand, in the middle of a window, values of the same count of steps, must.
        """
        if self._memory is not None:
            for touched in self._memory.touched.values():
                touched.forget()

    def set_weights(self, weights):
        """As `Methods.set_weights`."""
        super().set_weights(weights)
        self.forget_touched_rows()

    def load_own_variables(self, store):
        """Sets the state from a weights file."""
        super().load_own_variables(store)
        self.forget_touched_rows()

    def _lookup_dependency(self, name, *args, **kwargs):
        # How tf.train.Checkpoint finds what it restores.
        self.forget_touched_rows()
        return super()._lookup_dependency(name, *args, **kwargs)

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        if save_type == "savedmodel" and self._memory is not None:
            # A saved function needs all of its variables.
            for index, touched in self._memory.touched.items():
                children[f"touched_ids_{index}"] = touched.ids
                children[f"touched_step_{index}"] = touched.step
        return children

    def _rows_are_remembered(self):
        # XLA has no shapes that change, replicas have rows of their own.
        several = self._distribution_strategy.num_replicas_in_sync > 1
        return not several and not checks.is_compiled_by_xla()

    def _touched_rows(self, index):
        if index not in self._memory.touched:
            accumulator = fused.raw(self._accumulated_gradients[index])
            self._memory.touched[index] = _TouchedRows(
                accumulator, fused.raw(self._iterations)
            )
        return self._memory.touched[index]

    def _backend_apply_gradients(self, grads, trainable_variables):
        if not self.gradient_accumulation_steps:
            return super()._backend_apply_gradients(grads, trainable_variables)
        self._memory = self._memory or _Memory()
        self._memory.rows_to_clear.clear()
        grads = list(grads)
        for i, variable in enumerate(trainable_variables):
            checks.check_dtype(fused.raw(variable))
            checks.check_gradient(variable, grads[i])
            index = self._get_variable_index(variable)
            dtype = self._accumulated_gradients[index].dtype
            grads[i] = tf.cast(grads[i], dtype)
            if _is_sparse(grads[i]):
                grads[i] = self._addable(grads[i], index)
        # Here, since a step that ends no window calls no kernel that would check.
        sparse = [i for i, gradient in enumerate(grads) if _is_sparse(gradient)]
        check = sparse and checks.check_indices(
            [trainable_variables[i] for i in sparse],
            [grads[i].indices for i in sparse],
        )
        with tf.control_dependencies([check] if check else []):
            return super()._backend_apply_gradients(grads, trainable_variables)

    def _addable(self, gradient, index):
        ids = tf.cast(gradient.indices, tf.int64)
        addable = _AddableSlices(gradient.values, ids, gradient.dense_shape)
        addable.add = lambda slices, _: self._sum_of_window(slices, index)
        addable.index = index
        return addable

    def _sum_of_window(self, gradient, index):
        """The accumulator and the last gradient, for the step that ends a window."""
        accumulator = fused.raw(self._accumulated_gradients[index])
        if checks.is_compiled_by_xla():
            return self._sum_over_table(gradient, accumulator)
        ids = self._ids_of_window(accumulator, index)
        rows, places = tf.unique(tf.concat([ids, gradient.indices], 0))
        self._memory.rows_to_clear[index] = rows
        last = tf.math.unsorted_segment_sum(
            gradient.values, places[tf.size(ids) :], tf.size(rows)
        )
        return DivisibleSlices(tf.gather(accumulator, rows) + last, rows)

    def _ids_of_window(self, accumulator, index):
        def search():
            return tf.where(_rows_not_zero(accumulator))[:, 0]

        if not self._rows_are_remembered():
            return search()
        touched = self._touched_rows(index)
        known = touched.is_known(tf.convert_to_tensor(self._iterations))
        return tf.cond(known, touched.ids.read_value, search)

    def _sum_over_table(self, gradient, accumulator):
        rows = tf.shape(accumulator, tf.int64)[0]
        total = accumulator + tf.math.unsorted_segment_sum(
            gradient.values, gradient.indices, rows
        )
        if self.sparse_update == "dense":
            return total
        hit = tf.math.unsorted_segment_sum(
            tf.ones_like(gradient.indices, tf.int32), gradient.indices, rows
        )
        touched = tf.logical_or(_rows_not_zero(accumulator), hit > 0)
        # Under XLA the kernel drops rows that are outside of the table.
        return DivisibleSlices(total, tf.where(touched, tf.range(rows), -1))

    def _backend_reset_gradient_accumulators(self):
        iterations = tf.convert_to_tensor(self._iterations)  # after a step that worked
        with tf.control_dependencies([iterations]):
            for index, accumulator in enumerate(self._accumulated_gradients):
                if accumulator is None:
                    continue
                rows = self._memory.rows_to_clear.get(index)
                if rows is None or not self._rows_are_remembered():
                    accumulator.assign(tf.zeros(accumulator.shape, accumulator.dtype))
                    continue
                accumulator = fused.raw(accumulator)
                shape = tf.concat([tf.shape(rows), accumulator.shape[1:]], 0)
                zeros = tf.zeros(shape, accumulator.dtype)
                accumulator.scatter_update(tf.IndexedSlices(zeros, rows))
                self._touched_rows(index).clear(iterations)

    def _backend_increment_gradient_accumulators(self, grads, acc_grads):
        pairs = list(zip(grads, acc_grads, strict=True))
        dense = [pair for pair in pairs if not _is_sparse(pair[0])]
        sparse = [pair for pair in pairs if _is_sparse(pair[0])]
        if dense:
            super()._backend_increment_gradient_accumulators(*zip(*dense, strict=True))
        if not sparse:
            return
        recorded = []
        if self._rows_are_remembered():
            iterations = tf.convert_to_tensor(self._iterations)
            for gradient, _ in sparse:
                touched = self._touched_rows(gradient.index)
                recorded += touched.add(gradient.indices, iterations)
        recorded = [op for op in recorded if op is not None]
        with tf.control_dependencies(recorded):
            tf.__internal__.distribute.interim.maybe_merge_call(
                self._scatter_into_accumulators,
                self._distribution_strategy,
                [tf.IndexedSlices(g.values, g.indices) for g, _ in sparse],
                [fused.raw(accumulator) for _, accumulator in sparse],
            )

    def _scatter_into_accumulators(self, distribution, grads, accumulators):
        for gradient, accumulator in zip(grads, accumulators, strict=True):
            distribution.extended.update(
                accumulator,
                lambda variable, slices: variable.scatter_add(slices),
                args=(gradient,),
                group=False,
            )
