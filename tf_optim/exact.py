"""The modes of `sparse_update` that leave idle rows to a history.

With `sparse_update="exact"` a step updates the rows that a gradient names, as a lazy
one does. What the other rows miss is written down once, in the table's history, by
the op that takes the step. It is done to a row, all at once, before the row is next
read: see `prepared.py`.

A table that was not prepared takes dense steps, which leave nothing to bring up to
date, and so does a prepared one where a step of rows cannot be had (`steps_by_rows`).
"""

import warnings

import tensorflow as tf

from tf_optim import (
    checks,
    extension,
    keras_private,
    library,
    prepared,
    replicas,
    servers,
)

MODES = ("exact", "eventual")


def catch_up_all(optimizer):
    """Before an optimizer's variables are read, outside of a graph."""
    memory = getattr(optimizer, "_tables", None)
    if memory is None or not tf.executing_eagerly():
        return
    for variable in memory.tables:
        prepared.catch_up(variable)


def catch_up(optimizer, table, ids):
    """As `catch_up` of an optimizer."""
    tables = optimizer._tables.tables if table is None else prepared.parts_of(table)
    if table is not None:
        _check_it_updates(optimizer, tables, table)
    if ids is not None:
        if table is None:
            raise ValueError("`table` must be given with `ids`. Received: table=None.")
        if len(tables) > 1:
            raise ValueError(
                "`ids` must be left out for a table that is split over servers. "
                f"Received: ids of '{table.name}'."
            )
        ids = ids.flat_values if isinstance(ids, tf.RaggedTensor) else ids
        ids = tf.reshape(checks.as_indices(ids, "`ids`"), [-1])
        check = checks.check_indices(tables, [ids])
        with tf.control_dependencies([] if check is None else [check]):
            ids = tf.identity(ids)
    for each in tables:
        prepared.catch_up(each, ids)


def _check_it_updates(optimizer, parts, table):
    if prepared.is_table(table) and len(parts[0].shape) > 0:
        if not optimizer._is_built():
            return
        known = map(keras_private.raw, keras_private.built_with(optimizer))
        if set(map(id, parts)).issubset(map(id, known)):
            return
    raise ValueError(
        "`table` must be one of the variables that the optimizer was built with, and "
        f"have rows. Received: table={getattr(table, 'name', table)!r}"
    )


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
    if (
        optimizer.sparse_update == "eventual"
        and is_sparse
        and prepared.can_prepare(variable)
    ):
        prepared.prepare(variable, reads=False)
    return (
        prepared.history_of(variable) is not None
        and may_step_by_rows(optimizer)
        and is_sparse
        and sum(variable is other for _, other in pairs) == 1
        and (prepared.is_replicated(variable) or not replicas.are_several())
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
    if optimizer.sparse_update == "exact" and prepared.can_prepare(variable):
        warnings.warn(
            f"sparse_update='exact' takes dense steps of '{variable.name}', at the "
            "cost of the whole table: it is not prepared. Read it by "
            "`tf_optim.Embedding` or `tf_optim.lookup`, or give it to "
            "`tf_optim.prepare` before it is used (the model, or a layer's variable "
            "where the layer is no Embedding). The result is the same.",
            stacklevel=2,
        )


def ways_of(optimizer, local, pairs, whole=False):
    """How the op of a step goes about the rows of each variable.

    Args:
        optimizer: of ours.
        local: as `replicas.together` gives it.
        pairs: all gradients and variables of the step.
        whole: whether all rows of each table are updated, whatever the gradient.

    Returns:
        A list of pairs: the op's mode for a sparse gradient, and the history that the
        op takes, or None.
    """
    mode = optimizer.sparse_update
    if mode not in MODES and not prepared.have_histories([v for _, v in pairs]):
        return [(mode, None)] * len(pairs)
    ways = []
    for gradient, variable in pairs:
        gradient = local(gradient)[0]
        by_rows = not whole and steps_by_rows(optimizer, gradient, variable, pairs)
        if prepared.history_of(variable) is None:
            if isinstance(gradient, tf.IndexedSlices):
                _say_that_it_is_dense(optimizer, variable)
            history = None
        elif checks.is_compiled_by_xla():
            with tf.init_scope():  # from now on its steps are dense ones
                prepared.catch_up(variable)
            history = None
        else:
            histories = [prepared.history_of(copy) for copy in local(variable)]
            history = (
                histories[0] if local is replicas.only else replicas.Parts(histories)
            )
        if by_rows:
            optimizer._tables.add(variable)
            ways.append((_mode_by_rows(mode, variable), history))
        else:
            ways.append(("dense" if mode in MODES else mode, history))
    return ways


def _mode_by_rows(mode, variable):
    """The op's mode for a step of rows.

    "eventual" does not ask whether the rows were up to date when they were read. On
    replicas and servers they need not be now: another replica has looked them up, or
    another worker has taken a step since. Of a table that all ask they were.
    """
    others = prepared.is_replicated(variable) or servers.is_server(variable.device)
    return "eventual" if others or prepared.is_asked_by_all(variable) else mode


def agree(pairs):
    """Whatever has brought a whole table up to date on one of several machines.

    All do so before the step, which their copies come out of alike. To be called on
    each replica.

    Args:
        pairs: all gradients and variables of the step.
    """
    everywhere = tf.distribute.get_strategy().num_replicas_in_sync
    tables = [
        variable
        for _, variable in pairs
        if prepared.history_of(variable) is not None
        and prepared.is_replicated(variable)
        and len(variable.values) < everywhere
    ]
    if not tables or checks.is_compiled_by_xla():
        return
    here = [
        library.ops().tf_optim_is_caught_up(history=prepared.history_of(table))
        for table in tables
    ]
    counts = replicas.total(tf.cast(tf.stack(here), tf.int32))
    for table, count in zip(tables, tf.unstack(counts), strict=True):
        prepared.catch_up(table, condition=count > 0)
