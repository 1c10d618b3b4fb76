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

from tf_optim import (
    checks,
    gradients,
    kept,
    keras_private,
    library,
    op_calls,
    prepared,
    replicas,
    servers,
    specs,
)
from tf_optim.touched import AllRows


def _is_sparse(gradient):
    return isinstance(gradient, tf.IndexedSlices)


class _Sum:
    """A gradient, on one of the devices of its variable, and its accumulator there."""

    def __init__(self, step, key, variable, accumulator, gradient):
        self.key, self.variable = key, variable
        self.memory, self.count, self.iterations = step
        self.accumulator = accumulator
        self.gradient = self._converted(gradient)
        self.stands_once = True

    def _converted(self, gradient):
        """In the accumulator's dtype, with int64 ids."""
        dtype, shape = self.accumulator.dtype, self.accumulator.shape
        if not _is_sparse(gradient):
            return tf.ensure_shape(tf.cast(gradient, dtype), shape)
        ids = tf.cast(gradient.indices, tf.int64)
        values = tf.cast(gradient.values, dtype)
        values = tf.ensure_shape(values, [None, *shape[1:]])
        return tf.IndexedSlices(values, ids, gradient.dense_shape)

    def kept(self):
        """The `Kept` of its accumulator; None where there is none."""
        if checks.is_compiled_by_xla() or not self._has_memory():
            return None  # XLA has no shapes that change
        return self.memory.of(self.key, self.accumulator, self.count)

    def touched(self):
        """The `Touched` of its accumulator; None where there is none."""
        if not checks.is_compiled_by_xla() or not self._has_memory():
            return None
        if not self.stands_once:
            return None  # each of its gradients gets the sum of the window
        return self.memory.touched(self.key, self.accumulator, self.count)

    def _has_memory(self):
        if replicas.are_several() and not prepared.is_plain(self.accumulator):
            return False  # it stands for another variable on each replica
        if servers.is_server(self.accumulator.device):
            return False  # handles without a shape cannot be sent
        return _is_sparse(self.gradient)

    def add(self):
        """Returns the ops that add the gradient of a step that ends no window."""
        found, gradient = self.kept(), self.gradient
        if not _is_sparse(gradient):
            return [self.accumulator.assign_add(gradient, read_value=False)]
        if touched := self.touched():
            touched.add(gradient, self.iterations)
            return []
        op = tf.raw_ops.ResourceScatterAdd(
            resource=self.accumulator.handle,
            indices=gradient.indices,
            updates=gradient.values,
        )
        if found is None:
            return [op]
        return [op, found.remember(gradient.indices, self.iterations)]

    def total(self):
        """The sum of the window that this gradient ends."""
        accumulator, gradient = self.accumulator, self.gradient
        if not _is_sparse(gradient):
            return accumulator + gradient
        if touched := self.touched():
            return touched.total(gradient, self.iterations)
        if checks.is_compiled_by_xla():
            return self._over_table(accumulator, gradient)
        ids = self._ids()
        rows, places = tf.unique(tf.concat([ids, gradient.indices], 0))
        last = tf.math.unsorted_segment_sum(
            gradient.values, places[tf.size(ids) :], tf.size(rows)
        )
        sums = tf.gather(accumulator, rows) + last
        return tf.IndexedSlices(sums, rows, gradient.dense_shape)

    def _ids(self):
        def search():
            return tf.where(kept.named_rows(self.accumulator))[:, 0]

        found = self.kept()
        if found is None:
            return search()
        ids, is_known = found.known(self.iterations)
        return tf.cond(is_known, lambda: ids, search)

    @staticmethod
    def _over_table(accumulator, gradient):
        rows = tf.shape(accumulator, tf.int64)[0]
        total = accumulator + tf.math.unsorted_segment_sum(
            gradient.values, gradient.indices, rows
        )
        hit = tf.math.unsorted_segment_sum(
            tf.ones_like(gradient.indices, tf.int32), gradient.indices, rows
        )
        touched = tf.logical_or(kept.named_rows(accumulator), hit > 0)
        # Under XLA the kernel drops rows that are outside of the table.
        ids = tf.where(touched, tf.range(rows), -1)
        return tf.IndexedSlices(total, ids, gradient.dense_shape)


class _Rows:
    """Sparse gradients of one device and dtype, whose rows our ops add up."""

    def __init__(self, sums, members):
        self.sums = sums
        self.iterations = sums[0].iterations
        self.inputs = kept.Kept.inputs(members)
        self.gradients = {
            "grad": [each.gradient.values for each in sums],
            "indices": [each.gradient.indices for each in sums],
            "iterations": self.iterations,
        }
        self.rows = None

    def add(self):
        """Returns the ops that add gradients of a step that ends no window."""
        accumulate_rows = library.ops().tf_optim_accumulate_rows
        return [accumulate_rows(**self.inputs, **self.gradients)]

    def totals(self):
        """For each of the sums that of the window."""
        self.rows, sums = library.ops().tf_optim_accumulated_rows(
            **self.inputs, **self.gradients
        )
        shapes = [each.gradient.dense_shape for each in self.sums]
        slices = map(tf.IndexedSlices, sums, self.rows, shapes)
        return dict(zip(self.sums, slices, strict=True))

    def clear(self):
        """After the step that ends a window."""
        return library.ops().tf_optim_clear_accumulated_rows(
            rows=self.rows,
            iterations=self.iterations,
            T=self.sums[0].accumulator.dtype,
            **self.inputs,
        )


class _Dense:
    """Dense gradients under XLA on a CPU, added by the op of plain SGD.

    XLA itself adds on one thread.
    """

    def __init__(self, sums):
        self.sums = sums

    def add(self):
        """Returns the ops that add gradients of a step that ends no window."""
        spec = specs.SPECS["SGD"]
        updates = [
            op_calls.VariableUpdate(
                each.accumulator, (None,) * len(spec.slots), each.gradient
            )
            for each in self.sums
        ]
        numbers = op_calls.StepNumbers(
            learning_rate=tf.constant(-1.0),
            iterations=self.sums[0].iterations,
            hyper=(0.0,) * len(spec.hyper_names),
            flags=(False,) * len(spec.flags),
        )
        return op_calls.call_ops(spec, numbers, updates)

    def totals(self):
        """For each of the sums that of the window."""
        with tf.control_dependencies(self.add()):
            return {each: each.accumulator.read_value() for each in self.sums}

    def clear(self):
        """After the step that ends a window."""
        for each in self.sums:
            each.memory.all_rows(each.key, each.accumulator).clear(each.variable)

    @staticmethod
    def takes(each):
        """Whether a sum is such a one."""
        return (
            checks.is_compiled_by_xla()
            and not _is_sparse(each.gradient)
            and each.stands_once
            and AllRows.may_be_of(each.accumulator)
            and "GPU" not in each.accumulator.handle.device
            and not replicas.are_several()
        )


def _in_groups(sums):
    """The `_Rows` and `_Dense` of those sums that have such, and the other sums."""
    groups, seen = collections.defaultdict(list), collections.Counter()
    dense, others = [], []
    for each in sums:
        if _Dense.takes(each):
            dense.append(each)
            continue
        found = each.kept()
        if found is None or not kept.has_ops(each.accumulator):
            others.append(each)
            continue
        # A variable that stands twice is in two ops.
        device, dtype = each.accumulator.handle.device, each.accumulator.dtype
        groups[device, dtype, seen[each.key]].append((each, found))
        seen[each.key] += 1
    found = [_Rows(*zip(*group, strict=True)) for group in groups.values()]
    return found + ([_Dense(dense)] if dense else []), others


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
    steps = int(optimizer.gradient_accumulation_steps)
    count = keras_private.count(optimizer)
    iterations = tf.cast(tf.convert_to_tensor(count), tf.int64)
    step = optimizer._kept_rows, count, iterations

    def sums_of(gradient, variable):
        """On each device."""
        index = keras_private.index_of(optimizer, variable)
        parts = local(keras_private.accumulator(optimizer, index))
        # Under CentralStorageStrategy there is one, and each replica has the sum.
        each = zip(local(variable), parts, local(gradient), strict=False)
        found = [_Sum(step, (index, i), *parts) for i, parts in enumerate(each)]
        if variable.dtype.size < 4:
            # Their mean is rounded, once: rows that are given apart would not be.
            for each in found:
                optimizer._kept_rows.keep_nothing(each.key)
        return found

    by_variable = [sums_of(*pair) for pair in pairs]
    sums = [each for parts in by_variable for each in parts]
    times = collections.Counter(each.key for each in sums)
    for each in sums:
        each.stands_once = times[each.key] == 1
    _say_who_is_alone(optimizer, local, sums)
    variables = [variable for _, variable in pairs]

    def end():
        groups, others = _in_groups(sums)
        totals = {each: each.total() for each in others}
        for group in groups:
            totals.update(group.totals())
        grads = [replicas.Parts([totals[s] for s in parts]) for parts in by_variable]
        pairs = list(zip(grads, variables, strict=True))
        with tf.control_dependencies(update(pairs, steps)):
            for group in groups:
                group.clear()
            cleared = {each.key for group in groups for each in group.sums}
            for each in others:
                if touched := each.touched():
                    touched.clear(each.variable, iterations)
                    cleared.add(each.key)
            _clear(optimizer, local, cleared, iterations)
            return tf.constant(True)

    def go_on():
        groups, others = _in_groups(sums)
        ops = [op for group in groups for op in group.add()]
        ops += [op for each in others for op in each.add()]
        with tf.control_dependencies([op for op in ops if op is not None]):
            return tf.constant(False)

    # Here, since a step that ends no window calls no kernel that would check.
    firsts = [parts[0].gradient for parts in by_variable]
    with tf.control_dependencies(_checks(variables, firsts)):
        for each in sums:
            # It waits: what is made of constants TensorFlow may move up.
            each.gradient = gradients.scaled(each.gradient, tf.identity)
        is_last = tf.equal((iterations + 1) % steps, 0)
        done = tf.cond(is_last, end, go_on)
    return [] if tf.executing_eagerly() else [done]


def means_of_halves(local, pairs, steps):
    """Divides sums of 16-bit variables' gradients, which may be too large for these.

    Returns the pairs, and what each gradient is still to be divided by.
    """

    def divided(gradient):
        parts = [gradients.divided(part, steps) for part in local(gradient)]
        return replicas.Parts(parts) if len(parts) > 1 else parts[0]

    is_half = [variable.dtype.size < 4 for _, variable in pairs]
    if not any(is_half):
        return pairs, steps
    pairs = [
        (divided(g) if half else g, v)
        for (g, v), half in zip(pairs, is_half, strict=True)
    ]
    return pairs, tf.stack([tf.ones_like(steps) if h else steps for h in is_half])


def _accumulators(optimizer, local):
    """Pairs of a `_Sum`'s key and its accumulator, of all that there are."""
    for index in range(keras_private.how_many_accumulators(optimizer)):
        accumulator = keras_private.accumulator(optimizer, index)
        parts = () if accumulator is None else local(accumulator)
        for place, part in enumerate(parts):
            yield (index, place), part


def _say_who_is_alone(optimizer, local, sums):
    """What is traced without a `Kept` knows of none later, when there may be one."""
    with_kept = {each.key for each in sums if each.kept() is not None}
    if tf.executing_eagerly():
        return
    memory = optimizer._kept_rows
    for key, _ in _accumulators(optimizer, local):
        is_known = key in with_kept or memory.get(key) is not None
        if checks.is_compiled_by_xla() or not is_known:
            memory.keep_nothing(key)


def _checks(variables, grads):
    """What has to be right of all gradients before one of them is added."""
    sparse = [
        (variable, gradient.indices)
        for variable, gradient in zip(variables, grads, strict=True)
        if _is_sparse(gradient)
    ]
    ids = sparse and checks.check_indices(*zip(*sparse, strict=True))
    checked = [ids] if ids else []
    if tf.executing_eagerly():
        return checked
    # Their shapes have been made sure of, which takes place when they are computed.
    checked += [g.values if _is_sparse(g) else g for g in grads]
    return [check for check in checked if check is not None]


def _clear(optimizer, local, done, iterations):
    """Sets accumulators to zero, all but those of some keys."""
    groups = collections.defaultdict(list)
    for key, part in _accumulators(optimizer, local):
        if key in done:
            continue
        found = optimizer._kept_rows.get(key)
        if found is not None and not checks.is_compiled_by_xla():
            found.clear(iterations)
        if found is not None and found.touched is not None:
            found.touched.forget()
        if kept.has_ops(part):
            groups[part.handle.device, part.dtype].append(part.handle)
        else:
            part.assign(tf.zeros(part.shape, part.dtype), read_value=False)
    for (_, dtype), handles in groups.items():
        # In their own memory: zeros of that size would be asked of the system.
        library.ops().tf_optim_clear_accumulators(accumulator=handles, T=dtype)
