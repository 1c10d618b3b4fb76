"""Tables whose idle rows are brought up to date when they are read.

With `sparse_update="exact"` a step updates the rows that a gradient names, as a lazy
one does. What the other rows miss is written down once, in the table's history (an
op's resource, cc/kernels/row_history.h), and done to a row, all at once, before it is
next read. So whoever reads the table must be seen: a table that has been prepared is
a variable of a class of ours, every way of reading which asks the history first.

A table that was not prepared takes dense steps, which leave nothing to bring up to
date, and so does a prepared one where a step of rows cannot be had (`steps_by_rows`).
"""

import functools
import warnings

import tensorflow as tf
from tensorflow.python.eager import record

from tf_optim import (
    checks,
    extension,
    keras_private,
    library,
    own_reads,
    replicas,
    servers,
)

MODES = ("exact", "eventual")
BYTES_PER_ROW = 8  # of a history


# --- the history of a table


def history_of(variable):
    """The handle of a table's history; None for one that is not prepared."""
    return getattr(variable, "_tf_optim_history", None)


# Plain variables, and those made while a tf.function is traced for the first time.
# Variables of strategies, of DTensor and of Keras' autocast are classes of others.
_PLAIN = ("tensorflow.python.ops.", "tensorflow.python.eager.")


def can_prepare(variable):
    """Whether a table can have a history: a plain variable with rows, on a CPU."""
    return (
        type(variable).__module__.startswith(_PLAIN)
        and hasattr(variable, "sparse_read")
        and variable.shape.rank is not None
        and variable.shape.rank >= 1
        and "GPU" not in variable.device
        and not servers.is_server(variable.device)
    )


def prepare(variable, reads=True):
    """Gives a `tf.Variable` a history, in place.

    Args:
        variable: for which `can_prepare` holds.
        reads: whether what is read under a `tf.GradientTape` is up to date too. What
            is read otherwise always is.
    """
    if history_of(variable) is None:
        with tf.init_scope(), tf.device(variable.device):
            variable._tf_optim_history = library.ops().tf_optim_row_history()
    variable._tf_optim_reads = reads or getattr(variable, "_tf_optim_reads", False)
    # The same object: everybody who holds it reads through it.
    if not isinstance(variable, _UpToDate):
        variable.__class__ = _class_for(type(variable))


def unprepare(variable):
    """Makes a prepared table what it was, up to date."""
    catch_up(variable)
    variable.__class__ = type(variable).__bases__[1]
    del variable._tf_optim_history, variable._tf_optim_reads


def catch_up(variable, ids=None):
    """Brings rows up to date, or all of them.

    Returns:
        The ops that do; none in eager mode, or where there is nothing to do.
    """
    history = history_of(variable)
    if history is None or checks.is_compiled_by_xla():
        return []
    with tf.device(variable.device):
        if ids is None:
            op = library.ops().tf_optim_catch_up_all_rows(
                history=history, var=variable.handle
            )
        else:
            if ids.dtype not in (tf.int32, tf.int64):
                ids = tf.cast(ids, tf.int64)
            op = library.ops().tf_optim_catch_up_rows(
                history=history, var=variable.handle, indices=ids
            )
    return [] if op is None else [op]


def touched_rows(variable, since_step):
    """As `touched_rows` of an optimizer."""
    with tf.device(variable.device):
        return library.ops().tf_optim_touched_rows(
            history=history_of(variable), since=tf.cast(since_step, tf.int64)
        )


def catch_up_all(optimizer):
    """Before an optimizer's variables are read, outside of a graph."""
    memory = getattr(optimizer, "_tables", None)
    if memory is None or not tf.executing_eagerly():
        return
    for variable in memory.tables:
        catch_up(variable)


class Memory:
    """The tables that an optimizer has taken steps of rows of.

    Not a list of the optimizer's own, where Keras and checkpoints would find it.
    """

    def __init__(self):
        self.tables = []

    def add(self, variable):
        """Each is kept once."""
        if all(variable is not table for table in self.tables):
            self.tables.append(variable)


# --- the variable


class _UpToDate(own_reads.OwnReads):
    """Mixed into the class of a prepared table's variable."""

    def _caught_up(self, ids=None):
        if not self._tf_optim_reads and record.could_possibly_record():
            return tf.control_dependencies([])
        return tf.control_dependencies(catch_up(self, ids))

    def sparse_read(self, indices, name=None):
        """Rows, as `tf.gather` and `tf.nn.embedding_lookup` read them."""
        indices = tf.convert_to_tensor(indices)
        with self._caught_up(indices):
            return super().sparse_read(indices, name)

    def _export_to_saved_model_graph(
        self, object_map=None, tensor_map=None, options=None, **kwargs
    ):
        # A saved function has the table in the place of its history, and no row
        # that lies behind.
        tensors = super()._export_to_saved_model_graph(
            object_map, tensor_map, options, **kwargs
        )
        tensor_map[self._tf_optim_history] = tensor_map[self.handle]
        return [*tensors, self._tf_optim_history]


# Everything else that reads the table, or sets some of it.
_WHOLE = (
    "value",
    "read_value",
    "read_value_no_copy",
    "gather_nd",
    "assign",
    "assign_add",
    "assign_sub",
    "batch_scatter_update",
    *(
        f"scatter_{kind}"
        for kind in ["add", "div", "max", "min", "mul", "sub", "update"]
    ),
    *(f"scatter_nd_{kind}" for kind in ["add", "max", "min", "sub", "update"]),
    "_restore_from_tensors",
)


@functools.cache
def _class_for(base):
    def method(name):
        stock = getattr(base, name)

        @functools.wraps(stock)
        def caught_up(self, *args, **kwargs):
            with self._caught_up():
                return stock(self, *args, **kwargs)

        return caught_up

    members = {name: method(name) for name in _WHOLE}
    return type(base.__name__, (_UpToDate, base), members)


# --- the tables of a step


def steps_by_rows(optimizer, gradient, variable, pairs):
    """Whether a step updates some rows of a table, and its history has the others.

    In "eventual" mode a table is prepared when this is asked first.

    Args:
        optimizer: of ours.
        gradient: the table's.
        variable: the table.
        pairs: all gradients and variables of the step.
    """
    is_sparse = isinstance(gradient, tf.IndexedSlices)
    if optimizer.sparse_update == "eventual" and is_sparse and can_prepare(variable):
        prepare(variable, reads=False)
    return (
        history_of(variable) is not None
        and may_step_by_rows(optimizer)
        and is_sparse
        and sum(variable is other for _, other in pairs) == 1
        and not replicas.are_several()
        and not checks.is_compiled_by_xla()
    )


def may_step_by_rows(optimizer):
    """Whether an optimizer's mode and options leave idle rows to a history."""
    accumulates = getattr(optimizer, "gradient_accumulation_steps", None)
    return (
        optimizer.sparse_update in MODES
        # An average moves in steps too that end no window.
        and not (optimizer.use_ema and accumulates)
        and not extension.overridden(optimizer, extension.UPDATE | extension.DECAY)
    )


def _say_that_it_is_dense(optimizer, variable):
    if optimizer.sparse_update == "exact" and can_prepare(variable):
        warnings.warn(
            f"sparse_update='exact' takes dense steps of '{variable.name}', at the "
            "cost of the whole table: it is not prepared. Read it by "
            "`tf_optim.Embedding` or `tf_optim.lookup`, or call `tf_optim.prepare` on "
            "the model before it is used. The result is the same.",
            stacklevel=2,
        )


class Rows:
    """The prepared tables of one step, and which of them it takes row by row."""

    def __init__(self, optimizer, local, pairs, average_kept=1.0, whole=False):
        self.optimizer, self.average_kept = optimizer, average_kept
        self.by_rows, self.whole = [], []  # pairs of a table and its rows' ids
        prepared = [v for _, v in pairs if history_of(v) is not None]
        if not prepared and optimizer.sparse_update not in MODES:
            return
        for gradient, variable in pairs:
            gradient = local(gradient)[0]
            by_rows = not whole and steps_by_rows(optimizer, gradient, variable, pairs)
            if history_of(variable) is None:
                if isinstance(gradient, tf.IndexedSlices):
                    _say_that_it_is_dense(optimizer, variable)
                continue
            if not by_rows:
                self.whole.append(variable)
            else:
                self.by_rows.append((variable, gradient.indices))
                optimizer._tables.add(variable)

    def modes_of(self, pairs):
        """The op's mode for each variable's sparse gradient."""
        mode = self.optimizer.sparse_update
        mode = "dense" if mode in MODES else mode
        by_rows = {id(table) for table, _ in self.by_rows}
        return ["lazy" if id(variable) in by_rows else mode for _, variable in pairs]

    def before(self):
        """Returns the ops that come before the update."""
        if not (self.whole or self.by_rows):
            return []
        ops = []
        for variable in self.whole:
            if checks.is_compiled_by_xla():
                with tf.init_scope():  # from now on its steps are dense ones
                    catch_up(variable)
            else:
                ops += catch_up(variable)
        if self.optimizer.sparse_update == "eventual":
            for variable, ids in self.by_rows:
                ops += catch_up(variable, ids)
            return ops
        for members in self._groups():
            tables, ids = zip(*members, strict=True)
            ops.append(
                library.ops().tf_optim_check_rows(
                    history=[history_of(table) for table in tables], indices=ids
                )
            )
        return [op for op in ops if op is not None]

    def after(self, step, decays):
        """Returns the ops that write the step down, once it is taken.

        Args:
            step: the `op_calls.StepNumbers`.
            decays: the rates of weight decay, by the id of the variable.
        """
        if not (self.whole or self.by_rows) or checks.is_compiled_by_xla():
            return []
        groups = [*self._groups(), *([(v, None)] for v in self.whole)]
        ops = [self._advance(step, decays, members) for members in groups]
        return [op for op in ops if op is not None]

    def _groups(self):
        """Tables that can share an op call."""
        groups = {}
        for table, ids in self.by_rows:
            factor = self.optimizer._rate_factor_of(table)
            key = table.device, table.dtype, ids.dtype, factor
            groups.setdefault(key, []).append((table, ids))
        return groups.values()

    def _advance(self, step, decays, members):
        tables, ids = zip(*members, strict=True)
        slots = [keras_private.slots_of(self.optimizer, table) for table in tables]
        present = [slot is not None for slot in slots[0]]
        hyper = [checks.as_tensor(number, tf.float64) for number in step.hyper]
        decays = [checks.as_tensor(decays[id(t)], tf.float64) for t in tables]
        averages = []
        if self.optimizer.use_ema and ids[0] is not None:
            averages = keras_private.averages_of(self.optimizer, tables)
        spec = self.optimizer._spec
        return library.ops().tf_optim_advance_rows(
            history=[history_of(table) for table in tables],
            var=[table.handle for table in tables],
            slots=[slot.handle for each in slots for slot in each if slot is not None],
            indices=[each for each in ids if each is not None],
            learning_rate=step.rate(self.optimizer._rate_factor_of(tables[0])),
            iterations=step.iterations,
            hyper=tf.stack(hyper),
            weight_decay=tf.stack(decays),
            average=[average.handle for _, average in averages],
            average_kept=checks.as_tensor(self.average_kept, tf.float64),
            **step.rounding_of(
                tables,
                [slot for each in slots for slot in each],
                [keras_private.index_of(self.optimizer, table) for table in tables],
            ),
            T=tables[0].dtype,
            optimizer=spec.rule,
            slot_mask=sum(1 << i for i, there in enumerate(present) if there),
            flags=sum(1 << i for i, flag in enumerate(step.flags) if flag),
        )
