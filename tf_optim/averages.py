"""Moving averages of the variables (`use_ema`).

The op that updates a variable brings its average along, in the same pass. A lazy
step does so for the rows that it names: how many updates the average of each row
has seen is kept beside it, outside of checkpoints, and k updates of a row that lies
idle are one, with momentum^k. Whoever reads averages gets all rows up to date.

Averages that cannot ride along are updated behind the step, over whole variables:
on a GPU, of variables without a gradient, of a lazy step's tables on several replicas,
on parameter servers or with a constraint, and where a subclass updates variables.
"""

import functools

import tensorflow as tf

from tf_optim import (
    checks,
    exact,
    extension,
    keras_private,
    prepared,
    replicas,
    servers,
)


class _Seen:
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
            self.rows = tf.Variable(tf.zeros(shape, tf.int32), trainable=False)
            self.step = tf.Variable(-1, trainable=False, dtype=tf.int64)

    def is_known(self, count):
        return tf.equal(self.step, count)

    def all_have(self, count):
        rows = tf.cast(count, tf.int32)
        return self.rows.assign(tf.fill(self.rows.shape, rows), read_value=False)

    def settle(self, momentum, begins):
        """Brings all rows up to date, if any may not be. Returns the ops."""

        def bring():
            ops = self.bring_up_to_date(tf.identity(self.step), momentum, begins)
            with tf.control_dependencies(_in_graph(ops)):
                return [*ops, self.step.assign(-1, read_value=False)]

        return [_unless(self.step < 0, bring)]

    def count_from(self, count, momentum, begins):
        """Counts on from `count`, all rows being up to date. Returns the ops."""
        with tf.control_dependencies(_in_graph(self.settle(momentum, begins))):
            return [self.all_have(count)]

    def bring_up_to_date(self, count, momentum, begins):
        """Returns the ops that do what `KeptBy` of cc/drivers/average.h says."""
        seen = tf.cast(self.rows, tf.int64)
        kept = tf.pow(momentum, tf.cast(count - seen, tf.float64))
        begins = tf.constant(begins, tf.int64)
        kept = tf.where(seen < tf.minimum(begins, count), tf.zeros_like(kept), kept)
        kept = tf.where(seen >= count, tf.ones_like(kept), kept)
        kept = tf.reshape(kept, [-1] + [1] * (self.variable.shape.rank - 1))
        moved = _moved(self.average, self.variable, kept)
        with tf.control_dependencies([moved]):
            return [
                self.average.assign(moved, read_value=False),
                self.all_have(count),
            ]


def _moved(average, variable, kept):
    """The average after an update that keeps so much of it, in its own dtype."""
    dtype = tf.float64 if average.dtype == tf.float64 else tf.float32
    kept, taken = tf.cast(kept, dtype), tf.cast(1.0 - kept, dtype)
    moved = kept * tf.cast(average, dtype) + taken * tf.cast(variable, dtype)
    return tf.cast(moved, average.dtype)


class Memory:
    """The `_Seen` of each table, by the variable's index; hidden from checkpoints."""

    def __init__(self):
        self.tables = {}
        # Variables of which a function moves the whole average, and the variable: it
        # was traced when there was no `_Seen` that it would have asked.
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


def _momentum(optimizer):
    return checks.as_tensor(optimizer.ema_momentum, tf.float64)


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
            momentum, begins = _momentum(optimizer), _begins(optimizer)
            seen.bring_up_to_date(step, momentum, begins)
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


class Riders:
    """The averages of one step, and which of them its op brings along."""

    def __init__(self, optimizer, local, pairs, variables):
        self.optimizer, self.local = optimizer, local
        self.seen, self.riding = {}, {}  # by the variable's index
        self.kept = 1.0
        self.other = optimizer.averaging
        if not optimizer.use_ema:
            return
        averaged = keras_private.averaged_in_a_step(optimizer, variables)
        if self.other is not None:  # its averages begin at once, of all variables
            averaged = keras_private.built_with(optimizer)
            self.means = optimizer._averages_taken
        self.pairs = keras_private.averages_of(optimizer, averaged)
        self.indices = [keras_private.index_of(optimizer, v) for v, _ in self.pairs]
        self.count = _count(optimizer)
        if self.other is not None:
            return
        self.momentum, self.begins = _momentum(optimizer), _begins(optimizer)
        self.kept = tf.where(
            self.count < self.begins, tf.zeros_like(self.momentum), self.momentum
        )
        indices = [keras_private.index_of(optimizer, v) for _, v in pairs]
        averages = dict(zip(self.indices, self.pairs, strict=True))
        # A constraint moves rows that no gradient names.
        self.constrained = {
            keras_private.index_of(optimizer, v)
            for v in variables
            if v.constraint is not None
        }
        for index, (gradient, _) in zip(indices, pairs, strict=True):
            if indices.count(index) == 1 and index in averages:
                self._take_on(index, gradient, *averages[index])

    def _take_on(self, index, gradient, variable, average):
        optimizer = self.optimizer
        devices = [part.handle.device for part in self.local(variable)]
        if any("GPU" in device for device in devices) or extension.overridden(
            optimizer, extension.UPDATE
        ):
            return
        sparse = isinstance(self.local(gradient)[0], tf.IndexedSlices)
        memory = optimizer._seen_by_averages
        if not sparse and index not in memory.tables and not tf.executing_eagerly():
            memory.moved_whole.add(index)
        if not sparse or optimizer.sparse_update != "lazy":
            # Steps that end no window have no op.
            if not getattr(optimizer, "gradient_accumulation_steps", None):
                self.riding[index] = average
        elif not (
            replicas.are_several()
            or any(map(servers.is_server, devices))
            or index in self.constrained
            or index in memory.moved_whole
        ):
            tables = memory.tables
            if index not in tables:
                tables[index] = _Seen(variable, average)
            self.riding[index], self.seen[index] = average, tables[index]

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
        if self.other is not None:
            return self._start()
        ops, numbers = [], (self.momentum, self.begins)
        for index, seen in self.optimizer._seen_by_averages.tables.items():
            if index in self.seen:
                count = functools.partial(seen.count_from, self.count, *numbers)
                ops.append(_unless(seen.is_known(self.count), count))
            else:  # what comes takes all rows to be up to date
                ops += seen.settle(*numbers)
        return _in_graph(ops)

    def after(self):
        """Returns the ops that come behind the update; none in eager mode."""
        if not self.optimizer.use_ema:
            return []
        if self.other is not None:
            is_due = self.other.is_due(self.count)
            ops = [_unless(tf.logical_not(is_due), self._average_by_other)]
            with tf.control_dependencies(_in_graph(ops)):
                return _in_graph(self._count_means(is_due))
        ops = [
            seen.step.assign(self.count + 1, read_value=False)
            for seen in self.seen.values()
        ]
        each = zip(self.indices, self.pairs, strict=True)
        ops += self._set_averages(
            self.kept, [pair for index, pair in each if index not in self.riding]
        )
        frequency = int(self.optimizer.ema_overwrite_frequency or 0)
        if frequency:
            with tf.control_dependencies(_in_graph(ops)):
                iterations = tf.convert_to_tensor(self.optimizer.iterations)
                is_time = tf.equal((iterations + 1) % frequency, 0)
                ops = [_unless(tf.logical_not(is_time), self._overwrite)]
        return _in_graph(ops)

    def _start(self):
        if not self.other.starts_at_variable:
            return []
        set_all = functools.partial(self._set_averages, 0.0)
        return _in_graph([_unless(self._means() > 0, set_all)])

    def _means(self):
        """How often averages have been taken, their start included."""
        return tf.convert_to_tensor(self.local(keras_private.raw(self.means))[0])

    def _count_means(self, is_due):
        means = self._means() + tf.cast(is_due, tf.int64)
        if self.other.starts_at_variable:
            means = tf.maximum(means, 1)
        parts = self.local(keras_private.raw(self.means))
        return [part.assign(means, read_value=False) for part in parts]

    def _set_averages(self, kept, pairs=None):
        """Moves averages, by default all of them. Returns the ops."""
        ops = []
        for variable, average in self.pairs if pairs is None else pairs:
            parts = zip(self.local(variable), self.local(average), strict=True)
            with tf.control_dependencies(prepared.catch_up(variable)):
                ops += [
                    a.assign(_moved(a, v, kept), read_value=False) for v, a in parts
                ]
        return ops

    def _average_by_other(self):
        ops = self._set_averages(self.other.kept(self._means()))
        if not self.other.overwrites:
            return ops
        with tf.control_dependencies(_in_graph(ops)):
            return _overwritten(self.local, self.pairs)

    def _overwrite(self):
        count = self.count + 1
        ops = []
        for seen in self.seen.values():
            ops += seen.bring_up_to_date(count, self.momentum, self.begins)
        for variable, _ in self.pairs:
            ops += prepared.catch_up(variable)
        with tf.control_dependencies(_in_graph(ops)):
            return _overwritten(self.local, self.pairs)


def _in_graph(ops):
    return [op for op in ops if isinstance(op, (tf.Operation, tf.Tensor))]


def _unless(condition, function):
    """Calls the function, which returns ops, unless the condition holds."""

    def call(*_):
        with tf.control_dependencies(_in_graph(function())):
            return tf.constant(True)

    if checks.is_compiled_by_xla():
        # Out of a branch XLA takes what costs a table (a power for each row): it is
        # computed in each step.
        return tf.while_loop(tf.logical_not, call, (condition,))[0]
    return tf.cond(condition, lambda: tf.constant(False), call)


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
        if not other.is_result or not int(tf.identity(means)):
            return
    if optimizer.use_ema:
        exact.catch_up_all(optimizer)
        bring_up_to_date(optimizer)
        pairs = keras_private.averages_of(optimizer, variables)
        _overwritten(replicas.local_parts(), pairs)
