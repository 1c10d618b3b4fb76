"""Moving averages of the variables (`use_ema`), and what `averaging` makes of them.

The op that updates a variable brings its average along, in the same pass. A lazy
step does so for the rows that it names: how many updates the average of each row
has seen is kept beside it (average_rows.py), and k updates of a row that lies idle are
one, with momentum^k. Whoever reads averages gets all rows up to date.

The means of `averaging` ride in the same way, with another factor. Its slow weights
are given to variables once in several steps, behind the step: in "lazy" mode to the
rows that steps have named since.

Averages that cannot ride along are updated behind the step, over whole variables:
on a GPU, of variables without a gradient, of a lazy step's tables on several replicas,
on parameter servers or with a constraint, and where a subclass updates variables.
"""

import functools

import tensorflow as tf

from tf_optim import (
    average_rows,
    checks,
    exact,
    extension,
    keras_private,
    prepared,
    replicas,
    servers,
)
from tf_optim.average_rows import in_graph, unless


def _rule(optimizer):
    """The `Numbers` that do not depend on the step."""
    other = optimizer.averaging
    if other is not None:
        return average_rows.Numbers(other.kind, 0, tf.ones([], tf.float64))
    momentum = checks.as_tensor(optimizer.ema_momentum, tf.float64)
    return average_rows.Numbers("moving", _begins(optimizer), momentum)


def _begins(optimizer):
    """So many updates set an average to its variable: in Keras 3 those of step 0."""
    if not keras_private.is_keras_3():
        return 0
    return int(optimizer.gradient_accumulation_steps or 1)


def _count(optimizer):
    return tf.cast(tf.convert_to_tensor(keras_private.count(optimizer)), tf.int64)


def bring_up_to_date(optimizer):
    """Before averages are read, outside of a graph."""
    memory = getattr(optimizer, "_seen_by_averages", None)
    if memory is None or not tf.executing_eagerly():
        return
    _begin_at_variables(optimizer)
    for seen in memory.tables.values():
        step = tf.identity(seen.step)
        if seen.read_at != int(step) and int(step) >= 0:
            seen.bring_up_to_date(step, _rule(optimizer))
        seen.read_at = int(step)


def _begin_at_variables(optimizer):
    """Where `averaging` has taken none yet, an average is read as its variable."""
    taken = optimizer._averages_taken
    if taken is None or int(tf.identity(keras_private.raw(taken))):
        return
    exact.catch_up_all(optimizer)
    built = keras_private.built_with(optimizer)
    flipped = [(a, v) for v, a in keras_private.averages_of(optimizer, built)]
    _overwritten(replicas.local_parts(), flipped)


def rides(optimizer, devices, sparse, constrained, several):
    """Whether a variable's op brings its average along, whatever was before.

    Args:
        optimizer: of ours, with `use_ema` or `averaging`.
        devices: those of the variable's parts.
        sparse: whether its gradient is.
        constrained: whether it has a constraint.
        several: whether there are several replicas.
    """
    other = optimizer.averaging
    is_slow = other is not None and other.kind == "slow"
    if (
        any("GPU" in device for device in devices)
        or extension.overridden(optimizer, extension.UPDATE)
        # To the op, who keeps all of them has no slow weights to give.
        or (is_slow and not other.slow_step_size)
    ):
        return False
    if sparse and optimizer.sparse_update == "lazy":
        # A constraint moves rows that no gradient names.
        return not (constrained or several or any(map(servers.is_server, devices)))
    # Steps that end no window have no op.
    accumulates = getattr(optimizer, "gradient_accumulation_steps", None)
    # Rows that histories hold back would miss their slow weights.
    misses = is_slow and sparse and optimizer.sparse_update in exact.MODES
    return not (accumulates or misses)


class Riders:
    """The averages of one step, and which of them its op brings along."""

    def __init__(self, optimizer, local, pairs, variables):
        self.optimizer, self.local = optimizer, local
        self.seen, self.riding = {}, {}  # by the variable's index
        self.other = optimizer.averaging
        if not optimizer.use_ema:
            return
        averaged = keras_private.averaged_in_a_step(optimizer, variables)
        if self.other is not None:  # its averages begin at once, of all variables
            averaged = keras_private.built_with(optimizer)
            self.means = self._read_means()
        self.pairs = keras_private.averages_of(optimizer, averaged)
        self.indices = [keras_private.index_of(optimizer, v) for v, _ in self.pairs]
        self.numbers = self._numbers()
        indices = [keras_private.index_of(optimizer, v) for _, v in pairs]
        averages = dict(zip(self.indices, self.pairs, strict=True))
        self.constrained = {
            keras_private.index_of(optimizer, v)
            for v in variables
            if v.constraint is not None
        }
        for index, (gradient, _) in zip(indices, pairs, strict=True):
            if indices.count(index) == 1 and index in averages:
                self._take_on(index, gradient, *averages[index])

    def _numbers(self):
        numbers, steps = _rule(self.optimizer), _count(self.optimizer)
        if self.other is None:
            numbers.count = numbers.unknown = steps
            numbers.last = steps + 1
            return numbers
        self.is_due = self.other.is_due(steps)
        numbers.count = numbers.unknown = self.means
        if numbers.kind == "slow":  # the start is counted: it is the first
            numbers.count = tf.maximum(self.means, 1)
            # All rows may have moved since the last, but not since the start.
            numbers.unknown = tf.where(self.means > 0, self.means + 1, 1)
        numbers.last = numbers.count + tf.cast(self.is_due, tf.int64)
        kept = self.other.kept(self.means)
        numbers.momentum = tf.where(self.is_due, kept, numbers.momentum)
        return numbers

    def _take_on(self, index, gradient, variable, average):
        optimizer = self.optimizer
        devices = [part.handle.device for part in self.local(variable)]
        memory, is_slow = optimizer._seen_by_averages, self.numbers.kind == "slow"
        sparse = isinstance(self.local(gradient)[0], tf.IndexedSlices)
        constrained, several = index in self.constrained, replicas.are_several()
        if not sparse and index not in memory.tables and not tf.executing_eagerly():
            memory.moved_whole.add(index)
        if not rides(optimizer, devices, sparse, constrained, several):
            return
        if sparse and optimizer.sparse_update == "lazy":
            if index in memory.moved_whole:
                return
            if index not in memory.tables:
                make = average_rows.Touched if is_slow else average_rows.Seen
                memory.tables[index] = make(variable, average)
            self.seen[index] = memory.tables[index]
        self.riding[index] = average

    def of(self, variable):
        """Its average, and the rows' memory; None for what does not ride."""
        if not self.riding:
            return None, None
        index = keras_private.index_of(self.optimizer, variable)
        seen = self.seen.get(index)
        return self.riding.get(index), seen and seen.rows

    def before(self):
        """Returns the ops that come before the update."""
        if not self.optimizer.use_ema:
            return []
        ops = []
        if self.other is not None and self.other.kind == "slow":
            set_all = functools.partial(self._set_averages, 0.0)
            ops.append(unless(self.means > 0, set_all))
        numbers = self.numbers
        for index, seen in self.optimizer._seen_by_averages.tables.items():
            if index in self.seen:
                count = functools.partial(seen.count_from, numbers)
                ops.append(unless(seen.is_known(numbers.count), count))
            else:  # what comes takes all rows to be up to date
                ops += seen.settle(numbers)
        return in_graph(ops)

    def after(self):
        """Returns the ops that come behind the update; none in eager mode."""
        if not self.optimizer.use_ema:
            return []
        last = self.numbers.last
        ops = [seen.step.assign(last, read_value=False) for seen in self.seen.values()]
        apart = [
            pair
            for index, pair in zip(self.indices, self.pairs, strict=True)
            if index not in self.riding
        ]
        if self.other is not None:
            if apart:
                average = functools.partial(self._average_by_other, apart)
                ops.append(unless(tf.logical_not(self.is_due), average))
            with tf.control_dependencies(in_graph(ops)):
                return in_graph(self._count_means())
        ops += self._set_averages(_kept_of_all(self.numbers), apart)
        frequency = int(self.optimizer.ema_overwrite_frequency or 0)
        if frequency:
            with tf.control_dependencies(in_graph(ops)):
                iterations = tf.convert_to_tensor(self.optimizer.iterations)
                is_time = tf.equal((iterations + 1) % frequency, 0)
                ops = [unless(tf.logical_not(is_time), self._overwrite)]
        return in_graph(ops)

    def _read_means(self):
        """How often averages have been taken, their start included."""
        means = keras_private.raw(self.optimizer._averages_taken)
        return tf.convert_to_tensor(self.local(means)[0])

    def _count_means(self):
        parts = self.local(keras_private.raw(self.optimizer._averages_taken))
        return [part.assign(self.numbers.last, read_value=False) for part in parts]

    def _set_averages(self, kept, pairs=None):
        """Moves averages, by default all of them. Returns the ops."""
        ops = []
        for variable, average in self.pairs if pairs is None else pairs:
            parts = zip(self.local(variable), self.local(average), strict=True)
            with tf.control_dependencies(prepared.catch_up(variable)):
                ops += [
                    a.assign(average_rows.moved(a, v, kept), read_value=False)
                    for v, a in parts
                ]
        return ops

    def _average_by_other(self, apart):
        """Takes averages of whole variables; gives slow weights, if they are such."""
        ops = self._set_averages(self.other.kept(self.means), apart)
        if self.other.kind != "slow":
            return ops
        with tf.control_dependencies(in_graph(ops)):
            return _overwritten(self.local, apart)

    def _overwrite(self):
        ops = []
        for seen in self.seen.values():
            ops += seen.bring_up_to_date(self.numbers.last, self.numbers)
        for variable, _ in self.pairs:
            ops += prepared.catch_up(variable)
        with tf.control_dependencies(in_graph(ops)):
            return _overwritten(self.local, self.pairs)


def _kept_of_all(numbers):
    """What the update of a step keeps of averages that do not ride."""
    zero = tf.zeros_like(numbers.momentum)
    return tf.where(numbers.count < numbers.begins, zero, numbers.momentum)


def _overwritten(local, pairs):
    return [
        v.assign(tf.cast(a, v.dtype), read_value=False)
        for variable, average in pairs
        for v, a in zip(local(variable), local(average), strict=True)
    ]


def overwrite(optimizer, variables):
    """Gives the variables the values of their averages."""
    if not optimizer._is_built():
        return  # of a model that has taken no step
    other = optimizer.averaging
    if other is not None:
        means = keras_private.raw(optimizer._averages_taken)
        if other.kind != "mean" or not int(tf.identity(means)):
            return
    if optimizer.use_ema:
        exact.catch_up_all(optimizer)
        bring_up_to_date(optimizer)
        pairs = keras_private.averages_of(optimizer, variables)
        _overwritten(replicas.local_parts(), pairs)
