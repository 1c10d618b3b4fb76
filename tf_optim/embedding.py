"""Reading the rows of a table: `lookup`, `Embedding`, `prepare`, `unprepare`."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import tensorflow as tf

from tf_optim import checks, keras_private, prepared


def lookup(table: Any, ids: Any, name: str | None = None) -> Any:
    """The rows of a table, as `tf.nn.embedding_lookup`, and up to date.

    With `sparse_update="exact"` what the optimizer owes to the rows is done before
    they are read. The first lookup prepares the table for that.

    Args:
        table: a `tf.Variable` or Keras variable, [rows, ...], whole, split over
            parameter servers or on several replicas.
        ids: a `tf.Tensor` or `tf.RaggedTensor` of integers in [0, rows).
        name: a name for the operation. Default: None.

    Returns:
        A tensor of `ids`' shape followed by that of a row.

    Raises:
        ValueError: for anything else than a variable, and for ids that are not
            integers.
    """
    if not prepared.is_table(table):
        raise ValueError(f"`table` must be a variable. Received: table={table!r}")
    if not hasattr(ids, "dtype"):
        ids = checks.as_indices(ids, "`ids`")
    checks.check_integers(ids, "`ids`")
    if len(table.shape) == 0:
        raise ValueError("`table` must have rows. Received: a scalar variable.")
    if ids.dtype not in (tf.int32, tf.int64):  # others no gather takes
        ids = tf.cast(ids, tf.int64)
    return _looked_up(prepared.as_tensorflow_has_it(table), ids, name)


def _looked_up(table, ids, name=None):
    # A tensor where Keras casts its variables, or has others in their place.
    for part in prepared.parts_of(table):
        if prepared.history_of(part) is None and prepared.can_prepare(part):
            prepared.prepare(part)
    return tf.nn.embedding_lookup(table, ids, name=name)


_STOCK = tf.keras.layers.Embedding


def _can_skip_type_check(quantize):
    return "type_check" in inspect.signature(quantize).parameters


@tf.keras.utils.register_keras_serializable(package="tf_optim")
class Embedding(_STOCK):  # type: ignore[misc, valid-type]
    """`tf.keras.layers.Embedding`, whose rows are up to date when they are read.

    With an optimizer of `sparse_update="exact"` this layer gives the training of
    Keras' own layer and optimizer at the cost of the rows that a batch names. With
    any other optimizer it is Keras' layer. Arguments, weights and configuration are
    the same, so either one loads what the other has saved.
    """

    # Keras binds an object's `build` and `quantize` to the class that it is made of.
    # So `self` may be a stock layer here, once `unprepare` has made it one.

    def build(self, input_shape: Any = None) -> None:
        """Makes the table."""
        _of_stock(self, "build")(input_shape)
        if isinstance(self, Embedding):
            _prepare_tables(self, are_new=True)

    if keras_private.is_keras_3():

        def quantize(
            self, mode: Any = None, type_check: bool = True, **kwargs: Any
        ) -> None:
            """As the stock layer's, which takes no class but its own."""
            quantize = _of_stock(self, "quantize")
            if _can_skip_type_check(quantize):
                kwargs["type_check"] = type_check and type(self).call not in _CALLS
            quantize(mode, **kwargs)

    def call(self, inputs: Any) -> Any:
        """The rows of `inputs`, integers of any shape."""
        table = _plain_table(self)
        if table is None or isinstance(inputs, tf.SparseTensor):
            return super().call(inputs)
        if inputs.dtype not in (tf.int32, tf.int64):
            inputs = tf.cast(inputs, tf.int32)
        if keras_private.is_keras_3():
            rows = tf.constant(table.shape[0], inputs.dtype)
            inputs = tf.where(inputs < 0, inputs + rows, inputs)  # as in stock
        return tf.cast(_looked_up(table, inputs), self.compute_dtype)


def _of_stock(layer, name):
    """The method behind ours, of a layer that may be a stock one by now."""
    if isinstance(layer, Embedding):
        return getattr(super(Embedding, layer), name)
    return functools.partial(getattr(_STOCK, name), layer)


# Of layers that look rows up as these two do, not as a class derived from them.
_CALLS = (Embedding.call, _STOCK.call)


def become(layer: Any, cls: type) -> None:
    """Changes the class of a stock Embedding layer into one of ours, or back."""
    layer.__class__ = cls
    if not keras_private.is_keras_3():
        return
    # What Keras has bound to the methods of the class that the layer was made of.
    build, quantize = (
        getattr(each, "stocks", each) for each in (layer.build, layer.quantize)
    )
    layer.build, layer.quantize = build, quantize
    if cls is _STOCK:
        return

    @functools.wraps(build)
    def build_and_prepare(*args, **kwargs):
        build(*args, **kwargs)
        _prepare_tables(layer, are_new=True)

    @functools.wraps(quantize)
    def quantize_this_class(*args, type_check=True, **kwargs):
        del type_check  # the layer looks rows up as stock's
        quantize(*args, type_check=False, **kwargs)

    build_and_prepare.stocks = build  # type: ignore[attr-defined]
    layer.build = build_and_prepare
    if _can_skip_type_check(quantize):
        quantize_this_class.stocks = quantize  # type: ignore[attr-defined]
        layer.quantize = quantize_this_class


def _plain_table(layer):
    """As `keras_private.table_of`, a variable of TensorFlow's."""
    table = keras_private.table_of(layer)
    return None if table is None else prepared.as_tensorflow_has_it(table)


def prepare(model: Any) -> Any:
    """Makes a model's Embedding layers ours, in place, or prepares one table.

    Layers of classes derived from Keras' Embedding stay what they are, and their tables
    are prepared. A table of any other layer is to be given by itself.

    To be called before what reads the tables is traced: before `fit`, `evaluate` and
    `predict` and before a `tf.function` calls it. Weights stay as they are.

    Args:
        model: a model or layer of Keras, or a `tf.Variable` or Keras variable: a
            table that other code looks rows up in, by `tf.gather` for one.

    Returns:
        What it was given.

    Raises:
        ValueError: for anything else, and for a variable without rows.
    """
    for layer in _layers(model):
        if type(layer) is _STOCK:
            become(layer, Embedding)
    _prepare_tables(model)
    return model


def _prepare_tables(model, are_new=False):
    for part in _parts_in(model):
        if part.shape.rank == 0:
            raise ValueError(
                f"`model` must be a table. Received: '{part.name}', which has no rows."
            )
        if prepared.can_prepare(part):
            prepared.prepare(part, is_new=are_new)


def unprepare(model: Any) -> Any:
    """Undoes `prepare`, in place: layers are stock ones then, and tables up to date.

    Before a model is exported to where tf_optim is not: what is traced from then on
    has no op of ours. All tables of the model are undone, those too that were given to
    `prepare` by themselves, or that `sparse_update="eventual"` has prepared. `fit` goes
    on with dense steps, or with "eventual" prepares them again. A `tf.function` of
    yours that was traced with the prepared table raises an error at its next step.

    Args:
        model: a model or layer of Keras, or a table.

    Returns:
        What it was given.
    """
    for part in _parts_of_all(model):
        if prepared.history_of(part) is not None:
            prepared.unprepare(part)
    for each in _layers(model):
        for name in ("train_function", "test_function", "predict_function"):
            if getattr(each, name, None) is not None:
                setattr(each, name, None)  # traced with what was prepared
    for layer in _layers(model):
        if isinstance(layer, Embedding):
            become(layer, _STOCK)
    return model


def _layers(model):
    return keras_private.layers_of(model) if keras_private.is_layer(model) else []


def _parts_in(model):
    """The parts of all tables of a model's Embedding layers, or of one table."""
    if not keras_private.is_layer(model):
        if not prepared.is_table(model):
            raise ValueError(
                "`model` must be a model or layer of Keras, or a variable. Received: "
                f"model={model!r}"
            )
        return prepared.parts_of(model)
    layers = [layer for layer in _layers(model) if isinstance(layer, _STOCK)]
    tables = [_plain_table(layer) for layer in layers]
    return [
        part
        for table in tables
        if table is not None
        for part in prepared.parts_of(table)
    ]


def _parts_of_all(model):
    """The same of whatever tables a model has."""
    parts = _parts_in(model)
    if keras_private.is_layer(model) and model.built:
        parts += [part for table in model.weights for part in prepared.parts_of(table)]
    return {id(part): part for part in parts}.values()
