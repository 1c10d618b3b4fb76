"""Gradient accumulation, in Keras 3 (tf_keras has none).

Stock's accumulators stay what they are, variables of the shape of the whole
table, so checkpoints interchange. A step scatters its rows into them. Which rows
that were is remembered beside them, outside of checkpoints, so that the step
that ends a window reads and clears those rows alone: one sparse gradient, in which
every row occurs once. Where it is not known (after a restore in the middle of a
window, or a dense gradient in it) the rows that are not zero are looked for.
"""

import tensorflow as tf

from tf_optim import checks, gradients, keras_private, replicas


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


class Memory:
    """The rows touched of each accumulator, by the variable's index.

    Not a dict of the optimizer's own, where Keras and checkpoints would find it.
    """

    def __init__(self):
        self.touched = {}

    def forget(self):
        """To be called where accumulators have changed other than by a step."""
        for touched in self.touched.values():
            touched.forget()

    def variables(self):
        """By name: a saved function needs all of its variables."""
        found = {}
        for index, touched in self.touched.items():
            found[f"touched_ids_{index}"] = touched.ids
            found[f"touched_step_{index}"] = touched.step
        return found


class _Sum:
    """The accumulator of a variable, and what a step does with it."""

    def __init__(self, optimizer, variable, iterations):
        self.index = keras_private.index_of(optimizer, variable)
        self.variable = variable
        self.accumulator = keras_private.accumulator(optimizer, self.index)
        self.memory = optimizer._touched_rows
        self.count = keras_private.count(optimizer)
        self.iterations = iterations
        self.to_clear = None  # the rows to clear when the window ends; None for all

    def touched(self):
        """Which rows may be other than zero; None where that is not remembered."""
        # XLA has no shapes that change, replicas have rows of their own.
        if replicas.are_several() or checks.is_compiled_by_xla():
            return None
        if self.index not in self.memory.touched:
            self.memory.touched[self.index] = _TouchedRows(self.accumulator, self.count)
        return self.memory.touched[self.index]

    def converted(self, local, gradient):
        """The gradient's parts in the accumulator's dtype, with int64 ids."""
        return replicas.Parts([self._converted(part) for part in local(gradient)])

    def _converted(self, gradient):
        dtype, shape = self.accumulator.dtype, self.accumulator.shape
        if not _is_sparse(gradient):
            return tf.ensure_shape(tf.cast(gradient, dtype), shape)
        ids = tf.cast(gradient.indices, tf.int64)
        values = tf.cast(gradient.values, dtype)
        values = tf.ensure_shape(values, [None, *shape[1:]])
        return tf.IndexedSlices(values, ids, gradient.dense_shape)

    def add(self, local, gradient):
        """Returns the ops that add the gradient of a step that ends no window."""
        first = local(gradient)[0]
        touched = self.touched() if _is_sparse(first) else None
        ops = touched.add(first.indices, self.iterations) if touched else []
        with tf.control_dependencies([op for op in ops if op is not None]):
            for part, g in zip(local(self.accumulator), local(gradient), strict=False):
                if not _is_sparse(g):
                    ops.append(part.assign_add(g, read_value=False))
                    continue
                ops.append(
                    tf.raw_ops.ResourceScatterAdd(
                        resource=part.handle, indices=g.indices, updates=g.values
                    )
                )
        return ops

    def mean(self, local, gradient, steps):
        """The mean over the window that this gradient ends, for each device."""
        pairs = zip(local(self.accumulator), local(gradient), strict=False)
        totals = [self._total(part, g) for part, g in pairs]
        return replicas.Parts(
            [gradients.scaled(total, lambda x: x / steps) for total in totals]
        )

    def _total(self, accumulator, gradient):
        if not _is_sparse(gradient):
            return accumulator + gradient
        if checks.is_compiled_by_xla():
            return self._over_table(accumulator, gradient)
        ids = self._ids(accumulator)
        rows, places = tf.unique(tf.concat([ids, gradient.indices], 0))
        self.to_clear = rows
        last = tf.math.unsorted_segment_sum(
            gradient.values, places[tf.size(ids) :], tf.size(rows)
        )
        return tf.IndexedSlices(tf.gather(accumulator, rows) + last, rows)

    def _ids(self, accumulator):
        def search():
            return tf.where(_rows_not_zero(accumulator))[:, 0]

        touched = self.touched()
        if touched is None:
            return search()
        return tf.cond(
            touched.is_known(self.iterations), touched.ids.read_value, search
        )

    def _over_table(self, accumulator, gradient):
        rows = tf.shape(accumulator, tf.int64)[0]
        total = accumulator + tf.math.unsorted_segment_sum(
            gradient.values, gradient.indices, rows
        )
        hit = tf.math.unsorted_segment_sum(
            tf.ones_like(gradient.indices, tf.int32), gradient.indices, rows
        )
        touched = tf.logical_or(_rows_not_zero(accumulator), hit > 0)
        # Under XLA the kernel drops rows that are outside of the table.
        return tf.IndexedSlices(total, tf.where(touched, tf.range(rows), -1))

    def clear(self, local):
        """After the step that ends a window."""
        touched = self.touched() if self.to_clear is not None else None
        if touched is None:
            _clear(local, self.accumulator)
            return
        (part,) = local(self.accumulator)
        shape = tf.concat([tf.shape(self.to_clear), part.shape[1:]], 0)
        part.scatter_update(
            tf.IndexedSlices(tf.zeros(shape, part.dtype), self.to_clear)
        )
        touched.clear(self.iterations)


def accumulate(optimizer, local, pairs, update):
    """Adds gradients up, and at the end of a window calls `update` with their means.

    Args:
        optimizer: of ours.
        local: as `replicas.together` gives it.
        pairs: gradients and variables.
        update: takes such pairs and returns the ops that it has made.

    Returns:
        The ops that have to be done before the step counts.
    """
    steps = optimizer.gradient_accumulation_steps
    iterations = tf.cast(tf.convert_to_tensor(keras_private.count(optimizer)), tf.int64)
    sums = [_Sum(optimizer, variable, iterations) for _, variable in pairs]
    grads = [s.converted(local, g) for s, (g, _) in zip(sums, pairs, strict=True)]

    def end():
        means = [
            (each.mean(local, gradient, steps), each.variable)
            for each, gradient in zip(sums, grads, strict=True)
        ]
        with tf.control_dependencies(update(means)):
            for each in sums:
                each.clear(local)
            for index in range(keras_private.how_many_accumulators(optimizer)):
                if index not in {each.index for each in sums}:
                    _clear(local, keras_private.accumulator(optimizer, index))
            return tf.constant(True)

    def go_on():
        ops = [
            op
            for each, gradient in zip(sums, grads, strict=True)
            for op in each.add(local, gradient)
        ]
        with tf.control_dependencies([op for op in ops if op is not None]):
            return tf.constant(False)

    # Here, since a step that ends no window calls no kernel that would check.
    with tf.control_dependencies(_checks(local, sums, grads)):
        # Each gradient waits: what is made of constants TensorFlow may move up.
        grads = [
            replicas.Parts([gradients.scaled(part, tf.identity) for part in local(g)])
            for g in grads
        ]
        is_last = tf.equal((iterations + 1) % steps, 0)
        done = tf.cond(is_last, end, go_on)
    return [] if tf.executing_eagerly() else [done]


def _checks(local, sums, grads):
    """What has to be right of all gradients before one of them is added."""
    firsts = [local(gradient)[0] for gradient in grads]
    sparse = [
        (each.variable, gradient.indices)
        for each, gradient in zip(sums, firsts, strict=True)
        if _is_sparse(gradient)
    ]
    ids = sparse and checks.check_indices(*zip(*sparse, strict=True))
    checked = [ids] if ids else []
    if tf.executing_eagerly():
        return checked
    # Their shapes have been made sure of, which takes place when they are computed.
    checked += [g.values if _is_sparse(g) else g for g in firsts]
    return [check for check in checked if check is not None]


def _clear(local, accumulator):
    for part in local(accumulator) if accumulator is not None else ():
        part.assign(tf.zeros(part.shape, part.dtype), read_value=False)
