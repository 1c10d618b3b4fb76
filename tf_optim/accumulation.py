"""Gradient accumulation, in Keras 3 (tf_keras has none).

Stock's accumulators stay what they are, variables of the shape of the whole
table, so checkpoints interchange. A step's rows are kept beside them or added to them
by an op (`kept.py`). Which rows that were is remembered, outside of checkpoints, so
that the step that ends a window reads and clears those rows alone: one sparse
gradient. Where it is not known (after a restore in the middle of a window, or a dense
gradient in it) the rows that are not zero are looked for.
"""

import collections

import tensorflow as tf

from tf_optim import checks, gradients, kept, keras_private, library, replicas


def _is_sparse(gradient):
    return isinstance(gradient, tf.IndexedSlices)


class _Sum:
    """The accumulator of a variable, and what a step does with it."""

    def __init__(self, optimizer, variable, iterations):
        self.index = keras_private.index_of(optimizer, variable)
        self.variable = variable
        self.accumulator = keras_private.accumulator(optimizer, self.index)
        self.memory = optimizer._kept_rows
        self.count = keras_private.count(optimizer)
        self.iterations = iterations

    def kept(self, gradient):
        """The `Kept` for a gradient; None where there is none."""
        if checks.is_compiled_by_xla():  # which has no shapes that change
            self.memory.keep_nothing(self.index)
            return None
        # Replicas have rows of their own.
        if replicas.are_several() or not _is_sparse(gradient):
            return None
        return self.memory.of(self.index, self.accumulator, self.count)

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
        found = self.kept(first)
        ops = [found.remember(first.indices, self.iterations)] if found else []
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

    def total(self, local, gradient):
        """The sum of the window that this gradient ends, for each device."""
        pairs = zip(local(self.accumulator), local(gradient), strict=True)
        return replicas.Parts([self._total(part, g) for part, g in pairs])

    def _total(self, accumulator, gradient):
        if not _is_sparse(gradient):
            return accumulator + gradient
        if checks.is_compiled_by_xla():
            return self._over_table(accumulator, gradient)
        ids = self._ids(accumulator, gradient)
        rows, places = tf.unique(tf.concat([ids, gradient.indices], 0))
        last = tf.math.unsorted_segment_sum(
            gradient.values, places[tf.size(ids) :], tf.size(rows)
        )
        return tf.IndexedSlices(tf.gather(accumulator, rows) + last, rows)

    def _ids(self, accumulator, gradient):
        def search():
            return tf.where(kept.rows_not_zero(accumulator))[:, 0]

        found = self.kept(gradient)
        if found is None:
            return search()
        ids, is_known = found.known(self.iterations)
        return tf.cond(is_known, lambda: ids, search)

    def _over_table(self, accumulator, gradient):
        rows = tf.shape(accumulator, tf.int64)[0]
        total = accumulator + tf.math.unsorted_segment_sum(
            gradient.values, gradient.indices, rows
        )
        hit = tf.math.unsorted_segment_sum(
            tf.ones_like(gradient.indices, tf.int32), gradient.indices, rows
        )
        touched = tf.logical_or(kept.rows_not_zero(accumulator), hit > 0)
        # Under XLA the kernel drops rows that are outside of the table.
        return tf.IndexedSlices(total, tf.where(touched, tf.range(rows), -1))


class _Rows:
    """Sparse gradients of one device and dtype, whose rows our ops add up."""

    def __init__(self, sums, members, grads, iterations):
        self.sums, self.iterations = sums, iterations
        self.inputs = kept.Kept.inputs(members)
        self.gradients = {
            "grad": [g.values for g in grads],
            "indices": [g.indices for g in grads],
            "iterations": iterations,
        }
        self.rows = None

    def add(self):
        """Returns the op that adds gradients of a step that ends no window."""
        return library.ops().tf_optim_accumulate_rows(**self.inputs, **self.gradients)

    def totals(self):
        """For each variable the sum of the window."""
        self.rows, sums = library.ops().tf_optim_accumulated_rows(
            **self.inputs, **self.gradients
        )
        slices = map(tf.IndexedSlices, sums, self.rows)
        return dict(zip(self.sums, slices, strict=True))

    def clear(self):
        """After the step that ends a window."""
        return library.ops().tf_optim_clear_accumulated_rows(
            rows=self.rows,
            iterations=self.iterations,
            T=self.sums[0].accumulator.dtype,
            **self.inputs,
        )


def _in_rows(local, sums, grads, iterations):
    """The `_Rows` of those gradients that have such."""
    groups, seen = collections.defaultdict(list), collections.Counter()
    for each, gradient in zip(sums, grads, strict=True):
        first = local(gradient)[0]
        found = each.kept(first)
        if found is not None and kept.has_ops(each.accumulator):
            # A variable that stands twice is in two ops.
            device, dtype = each.accumulator.handle.device, each.accumulator.dtype
            group = groups[device, dtype, seen[each.index]]
            group.append((each, found, first))
            seen[each.index] += 1
    return [
        _Rows(*zip(*members, strict=True), iterations) for members in groups.values()
    ]


def accumulate(optimizer, local, pairs, update):
    """Adds gradients up, and at the end of a window calls `update` with their sums.

    Args:
        optimizer: of ours.
        local: as `replicas.together` gives it.
        pairs: gradients and variables.
        update: takes such pairs and what they are to be divided by, and returns the
            ops that it has made.

    Returns:
        The ops that have to be done before the step counts.
    """
    steps = optimizer.gradient_accumulation_steps
    iterations = tf.cast(tf.convert_to_tensor(keras_private.count(optimizer)), tf.int64)
    sums = [_Sum(optimizer, variable, iterations) for _, variable in pairs]
    grads = [s.converted(local, g) for s, (g, _) in zip(sums, pairs, strict=True)]

    def taken_apart():
        in_rows = _in_rows(local, sums, grads, iterations)
        done = {each for rows in in_rows for each in rows.sums}
        pairs = zip(sums, grads, strict=True)
        return in_rows, [pair for pair in pairs if pair[0] not in done]

    def end():
        in_rows, others = taken_apart()
        totals = {each: each.total(local, g) for each, g in others}
        for rows in in_rows:
            totals.update(rows.totals())
        pairs = [(totals[each], each.variable) for each in sums]
        with tf.control_dependencies(update(pairs, steps)):
            for rows in in_rows:
                rows.clear()
            cleared = {each.index for rows in in_rows for each in rows.sums}
            _clear(optimizer, local, cleared, iterations)
            return tf.constant(True)

    def go_on():
        in_rows, others = taken_apart()
        ops = [rows.add() for rows in in_rows]
        ops += [op for each, gradient in others for op in each.add(local, gradient)]
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


def _clear(optimizer, local, done, iterations):
    """Sets accumulators to zero, all but those of some indices."""
    groups = collections.defaultdict(list)
    for index in range(keras_private.how_many_accumulators(optimizer)):
        accumulator = keras_private.accumulator(optimizer, index)
        if index in done or accumulator is None:
            continue
        found = optimizer._kept_rows.get(index)
        if found is not None and not checks.is_compiled_by_xla():
            found.clear(iterations)
        for part in local(accumulator):
            if kept.has_ops(part):
                groups[part.handle.device, part.dtype].append(part.handle)
            else:
                part.assign(tf.zeros(part.shape, part.dtype), read_value=False)
    for (_, dtype), handles in groups.items():
        # In their own memory: zeros of that size would be asked of the system.
        library.ops().tf_optim_clear_accumulators(accumulator=handles, T=dtype)
