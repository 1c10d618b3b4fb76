"""Gradient accumulation, in Keras 3 (tf_keras has none).

Stock's accumulators stay what they are, variables of the shape of the whole
table, so checkpoints interchange. An op adds a step's rows to them. Which rows
that were is remembered beside them, outside of checkpoints, so that the step
that ends a window reads and clears those rows alone: one sparse gradient, in which
every row occurs once. Where it is not known (after a restore in the middle of a
window, or a dense gradient in it) the rows that are not zero are looked for.
"""

import collections

import tensorflow as tf

from tf_optim import checks, gradients, keras_private, library, replicas


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

    They stand in `rows`, as the op AccumulateRows says, provided that its first number
    is the optimizer's count of steps: then every step since the accumulator was zero
    has been seen.
    """

    def __init__(self, accumulator, iterations):
        with tf.init_scope(), tf.device(accumulator.device):
            zero = tf.executing_eagerly() and _is_zero(accumulator, iterations)
            step = tf.cast(iterations if zero else -1, tf.int64)
            self.rows = tf.Variable(
                tf.stack([step, 0]), trainable=False, shape=[None], dtype=tf.int64
            )

    def forget(self):
        self.rows.assign([-1, 0])

    # What the ops do, where there are none (on a GPU).

    def known(self, iterations):
        """The rows' numbers, and whether these are all."""
        rows = tf.convert_to_tensor(self.rows)
        return rows[2 : 2 + rows[1]], tf.equal(rows[0], iterations)

    def add(self, ids, iterations):
        """Returns the op that records rows of a step that ends no window."""
        before, is_known = self.known(iterations)
        step, count = iterations + 1, tf.size(before, tf.int64) + tf.size(ids, tf.int64)
        rows = tf.concat([tf.stack([step, count]), before, ids], 0)
        unknown = tf.constant([-1, 0], tf.int64)
        rows = tf.cond(is_known, lambda: rows, lambda: unknown)
        return self.rows.assign(rows, read_value=False)

    def clear(self, iterations):
        """After the step that ends a window."""
        zero = tf.zeros_like(iterations)
        self.rows.assign(tf.stack([iterations + 1, zero]), read_value=False)


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
            found[f"touched_rows_{index}"] = touched.rows
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

    def touched(self, gradient):
        """Which rows may be other than zero; None where that is not remembered."""
        # XLA has no shapes that change, replicas have rows of their own.
        if replicas.are_several() or checks.is_compiled_by_xla():
            return None
        if not _is_sparse(gradient):
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
        touched = self.touched(first)
        ops = [touched.add(first.indices, self.iterations)] if touched else []
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
        ids = self._ids(accumulator, gradient)
        rows, places = tf.unique(tf.concat([ids, gradient.indices], 0))
        last = tf.math.unsorted_segment_sum(
            gradient.values, places[tf.size(ids) :], tf.size(rows)
        )
        return tf.IndexedSlices(tf.gather(accumulator, rows) + last, rows)

    def _ids(self, accumulator, gradient):
        def search():
            return tf.where(_rows_not_zero(accumulator))[:, 0]

        touched = self.touched(gradient)
        if touched is None:
            return search()
        ids, is_known = touched.known(self.iterations)
        return tf.cond(is_known, lambda: ids, search)

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


def _has_our_ops(accumulator):
    return not (
        checks.is_compiled_by_xla()
        or "GPU" in accumulator.handle.device
        or accumulator.dtype not in (tf.float32, tf.float64)
    )


class _Rows:
    """Sparse gradients of one device and dtype, whose rows our ops add up."""

    def __init__(self, sums, touched, grads, iterations):
        self.sums = sums
        self.accumulators = {
            "accumulator": [each.accumulator.handle for each in sums],
            "touched": [each.rows.handle for each in touched],
            "iterations": iterations,
        }
        self.gradients = {
            "grad": [g.values for g in grads],
            "indices": [g.indices for g in grads],
        }
        self.dtype = sums[0].accumulator.dtype
        self.rows = None

    def add(self):
        """Returns the op that adds gradients of a step that ends no window."""
        op = library.ops().tf_optim_accumulate_rows
        return op(**self.accumulators, **self.gradients)

    def means(self, steps):
        """For each variable the mean over the window, in which a row occurs once."""
        number = checks.static_value(steps)
        divided = number is not None
        self.rows, means = library.ops().tf_optim_accumulated_rows(
            steps=int(number) if divided else 1, **self.accumulators, **self.gradients
        )
        slices = [
            tf.IndexedSlices(mean, rows)
            for mean, rows in zip(means, self.rows, strict=True)
        ]
        if not divided:
            slices = [gradients.divided(each, steps) for each in slices]
        return dict(zip(self.sums, slices, strict=True))

    def clear(self):
        """After the step that ends a window."""
        op = library.ops().tf_optim_clear_accumulated_rows
        return op(rows=self.rows, T=self.dtype, **self.accumulators)


def _in_rows(local, sums, grads, iterations):
    """The `_Rows` of those gradients that have such."""
    groups, seen = collections.defaultdict(list), collections.Counter()
    for each, gradient in zip(sums, grads, strict=True):
        first = local(gradient)[0]
        touched = each.touched(first)
        if touched is not None and _has_our_ops(each.accumulator):
            # A variable that stands twice is in two ops.
            device, dtype = each.accumulator.handle.device, each.accumulator.dtype
            group = groups[device, dtype, seen[each.index]]
            group.append((each, touched, first))
            seen[each.index] += 1
    return [
        _Rows(*zip(*members, strict=True), iterations) for members in groups.values()
    ]


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

    def taken_apart():
        in_rows = _in_rows(local, sums, grads, iterations)
        done = {each for rows in in_rows for each in rows.sums}
        pairs = zip(sums, grads, strict=True)
        return in_rows, [pair for pair in pairs if pair[0] not in done]

    def end():
        in_rows, others = taken_apart()
        means = {each: each.mean(local, g, steps) for each, g in others}
        for rows in in_rows:
            means.update(rows.means(steps))
        with tf.control_dependencies(
            update([(means[each], each.variable) for each in sums])
        ):
            for rows in in_rows:
                rows.clear()
            cleared = {each.index for rows in in_rows for each in rows.sums}
            for each, gradient in others:
                touched = each.touched(local(gradient)[0])
                if touched is not None:
                    touched.clear(iterations)
            _clear(
                local,
                [
                    keras_private.accumulator(optimizer, index)
                    for index in range(keras_private.how_many_accumulators(optimizer))
                    if index not in cleared
                ],
            )
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


def _clear(local, accumulators):
    groups = collections.defaultdict(list)
    for accumulator in accumulators:
        for part in local(accumulator) if accumulator is not None else ():
            if _has_our_ops(part):
                groups[part.handle.device, part.dtype].append(part.handle)
            else:
                part.assign(tf.zeros(part.shape, part.dtype), read_value=False)
    for (_, dtype), handles in groups.items():
        # In their own memory: zeros of that size would be asked of the system.
        library.ops().tf_optim_clear_accumulators(accumulator=handles, T=dtype)
