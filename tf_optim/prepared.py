"""Tables that have a history, and the class of their variables.

A history (an op's resource, cc/kernels/row_history.h) has what the rows of a table
have missed. Whoever reads the table must ask it first, so a prepared table is a
variable of a class of ours: the same object, through whichever name it is read.

Copies of a table on several replicas have a history each. They are looked up without
being changed, for replicas that brought different rows up to date at different steps
would differ in their last bits. What brings a whole table up to date does so with all
copies in this process, and the next step with those in others (`exact.agree`).
"""

import functools
import itertools

import tensorflow as tf
from tensorflow.python.distribute import ps_values
from tensorflow.python.distribute import values as distribute_values
from tensorflow.python.eager import record
from tensorflow.python.ops import handle_data_util, resource_variable_ops
from tensorflow.python.ops.parallel_for import pfor
from tensorflow.python.util import dispatch

from tf_optim import checks, keras_private, library, own_reads, servers

BYTES_PER_ROW = 8  # of a history
_numbers = itertools.count()  # of tables, as they are prepared


def as_tensorflow_has_it(table):
    """What TensorFlow looks rows up in, of a Keras variable too."""
    is_keras = hasattr(table, "value") and not keras_private.is_split(table)
    return keras_private.raw(table) if is_keras else table


def is_table(thing):
    """Whether it is a variable, of TensorFlow or of Keras, whole or split."""
    is_keras = keras_private.is_keras_3() and isinstance(thing, tf.keras.Variable)
    return is_keras or keras_private.is_split(thing) or isinstance(thing, tf.Variable)


def parts_of(table):
    """The shards of a table that is split over servers, or the table alone."""
    table = as_tensorflow_has_it(table)
    return table.variables if keras_private.is_split(table) else [table]


def history_of(variable):
    """The handle of a table's history; None for one that is not prepared.

    Of a table on several replicas that of the copy which is used here.
    """
    return getattr(_copy_here(variable), "_tf_optim_history", None)


def have_histories(variables):
    """Whether any of some tables is prepared."""
    return any(history_of(variable) is not None for variable in variables)


def is_replicated(variable):
    """Whether a table has a copy on each of several replicas."""
    return isinstance(variable, distribute_values.MirroredVariable)


def _copies_of(variable):
    if isinstance(variable, ps_values.CachingVariable):  # all of a parameter server
        return (variable.get(),)
    return variable.values if is_replicated(variable) else (variable,)


def _copy_here(variable):
    """The copy of this replica; where all are at hand, any of them."""
    if is_replicated(variable) and tf.distribute.in_cross_replica_context():
        return variable.values[0]
    return variable  # which asks the copy of this replica


# Plain variables, and those made while a tf.function is traced for the first time.
# Others' classes are those of other strategies, of DTensor and of Keras' autocast.
_PLAIN = ("tensorflow.python.ops.", "tensorflow.python.eager.")


def is_plain(variable):
    """Whether no strategy has put something of its own around a variable."""
    return type(variable).__module__.startswith(_PLAIN)


def can_prepare(variable):
    """Whether a table can have a history: plain variables with rows, on CPUs."""
    return all(
        is_plain(copy)
        and hasattr(copy, "sparse_read")
        and copy.shape.rank is not None
        and copy.shape.rank >= 1
        and not any(kind in copy.device for kind in ("GPU", "TPU"))
        for copy in _copies_of(variable)
    )


def is_asked_by_all(variable):
    """Whether a table was prepared before anybody could read it, and not under XLA."""
    return getattr(_copy_here(variable), "_tf_optim_asked_by_all", False)


def prepare(variable, reads=True, is_new=False):
    """Gives a `tf.Variable` a history, in place.

    Args:
        variable: for which `can_prepare` holds.
        reads: whether what is read under a `tf.GradientTape` is up to date too. What
            is read otherwise always is.
        is_new: whether nobody has read it, nor traced a function that does.
    """
    copies = _copies_of(variable)
    if servers.among(copy.device for copy in copies):
        servers.check_they_know_our_ops()
    for copy in copies:
        if history_of(copy) is None:
            with tf.init_scope(), tf.device(copy.device):
                history = copy._tf_optim_history = library.ops().tf_optim_row_history()
                # A loop's gradient asks each resource for it.
                data = handle_data_util.create_handle_data(tf.TensorShape([]), tf.int64)
                handle_data_util.set_handle_data(history, data)
            copy._tf_optim_asked_by_all = is_new
            copy._tf_optim_number = next(_numbers)
        copy._tf_optim_reads = reads or getattr(copy, "_tf_optim_reads", False)
        copy._tf_optim_copies = copies if is_replicated(variable) else ()
        # The same object: everybody who holds it reads through it.
        if not isinstance(copy, _UpToDate):
            copy.__class__ = _class_for(type(copy))
    around = _AROUND.get(type(variable))
    if around is not None:
        variable.__class__ = around


def unprepare(variable):
    """Makes a prepared table what it was, up to date.

    Functions that were traced before and take steps of some of its rows fail.
    """
    catch_up(variable, closes=True)
    for copy in _copies_of(variable):
        copy.__class__ = type(copy).__bases__[1]
        del copy._tf_optim_history, copy._tf_optim_reads, copy._tf_optim_copies
        del copy._tf_optim_asked_by_all, copy._tf_optim_number
    if type(variable) in _AROUND.values():
        variable.__class__ = type(variable).__bases__[0]


def catch_up(variable, ids=None, condition=True, closes=False):
    """Brings rows up to date, or all of them.

    Args:
        variable: a table, or one of its copies.
        ids: of the rows. Default: None, for all.
        condition: where it does not hold, of all rows, nothing is done.
        closes: whether steps of some of the rows are errors from then on.

    Returns:
        The ops that do; none in eager mode, or where there is nothing to do.
    """
    if history_of(variable) is None:
        return []
    if checks.is_compiled_by_xla():  # where it is read as it is
        _copy_here(variable)._tf_optim_asked_by_all = False
        return []
    copies = _copy_here(variable)._tf_optim_copies
    if copies and ids is not None:
        return []  # who looks them up gets them so
    ops = []
    for table in copies or [variable]:
        inputs = {"history": history_of(table), "var": table.handle}
        with tf.device(table.device):
            if ids is None:
                ops.append(
                    library.ops().tf_optim_catch_up_all_rows(
                        **inputs, condition=condition, closes=closes
                    )
                )
            else:
                ops.append(
                    library.ops().tf_optim_catch_up_rows(
                        **inputs, indices=_as_indices(ids)
                    )
                )
    return [op for op in ops if op is not None]


def _as_indices(ids):
    return ids if ids.dtype in (tf.int32, tf.int64) else tf.cast(ids, tf.int64)


def touched_rows(table, since_step):
    """As `touched_rows` of an optimizer."""
    since_step = checks.as_indices(since_step, "`since_step`")
    if since_step.shape.rank not in (0, None):
        raise ValueError(
            f"`since_step` must be a scalar. Received: shape {since_step.shape}."
        )
    found, first = [], 0
    for part in parts_of(table):
        with tf.device(part.device):
            rows = library.ops().tf_optim_touched_rows(
                history=history_of(part), since=tf.cast(since_step, tf.int64)
            )
        found.append(rows + first)
        first += part.shape[0]
    return tf.concat(found, 0)


# --- the variable


class _UpToDate(own_reads.OwnReads):
    """Mixed into the class of a prepared table's variable."""

    def _is_read_as_it_is(self):
        return not self._tf_optim_reads and record.could_possibly_record()

    def _caught_up(self, ids=None):
        as_it_is = self._is_read_as_it_is()
        return tf.control_dependencies([] if as_it_is else catch_up(self, ids))

    def __tf_tracing_type__(self, context):
        # A function that is given the table is traced anew for another one, whose
        # history it has to ask.
        spec = super().__tf_tracing_type__(context)
        alias = spec.alias_id, self._tf_optim_number
        context.add_placeholder(alias, self)
        return resource_variable_ops.VariableSpec(
            spec.shape, spec.dtype, spec.trainable, alias
        )

    def _around(self, sets):
        del sets  # some of it may be read after that
        return self._caught_up()

    def sparse_read(self, indices, name=None):
        """Rows, as `tf.gather` and `tf.nn.embedding_lookup` read them."""
        indices = tf.convert_to_tensor(indices)
        if (
            self._tf_optim_copies
            and not self._is_read_as_it_is()
            and not checks.is_compiled_by_xla()
        ):
            resource_variable_ops.variable_accessed(self)
            return library.ops().tf_optim_lookup_rows(
                history=self._tf_optim_history,
                var=self.handle,
                indices=_as_indices(indices),
                T=self.dtype,
                name=name,
            )
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


@tf.RegisterGradient("TfOptim>LookupRows")
def _gradient_of_lookup(op, gradient):
    # As that of TensorFlow's own gather: branches of a `tf.cond` must agree in it.
    _, handle, indices = op.inputs
    shape = resource_variable_ops.variable_shape(handle)
    indices = tf.reshape(indices, [-1])
    values = tf.reshape(gradient, tf.concat([tf.size(indices)[None], shape[1:]], 0))
    return None, tf.IndexedSlices(values, indices, shape), None


@functools.cache
def _class_for(base):
    return own_reads.class_for(_UpToDate, base)


# --- under `tf.vectorized_map`, which has to know each op


def _of_all_calls(given):
    """The op's inputs; ids of all calls where these differ, and whether they do."""
    indices, is_stacked, _ = given.input(2)
    history, handle = given.unstacked_input(0), given.unstacked_input(1)
    return {"history": history, "var": handle, "indices": indices}, is_stacked


@pfor.RegisterPFor("TfOptim>CatchUpRows")
def _catch_up_rows_of_all(given):
    inputs, _ = _of_all_calls(given)
    return library.ops().tf_optim_catch_up_rows(**inputs)


@pfor.RegisterPFor("TfOptim>CatchUpAllRows")
def _catch_up_all_rows_of_all(given):
    return library.ops().tf_optim_catch_up_all_rows(
        history=given.unstacked_input(0),
        var=given.unstacked_input(1),
        condition=given.unstacked_input(2),
    )


@pfor.RegisterPFor("TfOptim>LookupRows")
def _lookup_rows_of_all(given):
    inputs, is_stacked = _of_all_calls(given)
    rows = library.ops().tf_optim_lookup_rows(**inputs, T=given.get_attr("T"))
    return pfor.wrap(rows, is_stacked)


# --- what strategies put around variables


class _Served(ps_values.CachingVariable):
    """Around a prepared table on a parameter server, who alone knows how to read it."""

    @property
    def handle(self):
        """The resource."""
        return self.get().handle


def _of_the_table(name):
    def method(self, *args, **kwargs):
        return getattr(self.get(), name)(*args, **kwargs)

    return method


for _name in own_reads.METHODS:
    setattr(_Served, _name, _of_the_table(_name))


@dispatch.register_dispatchable_type
class _Replicated(distribute_values.MirroredVariable):
    """A prepared table with a copy on each replica."""

    def sparse_read(self, indices, name=None):
        """Rows. TensorFlow's own has none, so that it reads the whole table."""
        if tf.distribute.in_cross_replica_context():
            return self.values[0].sparse_read(indices, name)
        return self.__getattr__("sparse_read")(indices, name)  # of this replica's copy

    def _export_to_saved_model_graph(
        self, object_map=None, tensor_map=None, options=None, **kwargs
    ):
        tensors = super()._export_to_saved_model_graph(
            object_map, tensor_map, options, **kwargs
        )
        for copy in self.values:  # of all but the first one nobody has said so
            tensor_map[copy._tf_optim_history] = tensor_map[copy.handle]
            tensors.append(copy._tf_optim_history)
        return tensors


@tf.experimental.dispatch_for_api(tf.nn.embedding_lookup, {"params": _Replicated})
def _embedding_lookup(params, ids, max_norm=None, name=None):
    """As TensorFlow's, which takes what is no plain variable for a tensor: it would
    read the whole table."""
    if isinstance(ids, tf.RaggedTensor):
        return ids.with_flat_values(
            _embedding_lookup(params, ids.flat_values, max_norm, name)
        )
    ids = tf.convert_to_tensor(ids)
    rows = tf.gather(params, ids, name=name)
    if max_norm is None:
        return rows
    return tf.clip_by_norm(rows, max_norm, tf.range(tf.rank(ids), tf.rank(rows)))


_AROUND = {
    ps_values.CachingVariable: _Served,
    distribute_values.MirroredVariable: _Replicated,
}
