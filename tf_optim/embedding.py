"""Reading the rows of a table: `lookup`, `Embedding`, `prepare`, `unprepare`."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_optim import keras_private, prepared
from tf_optim.keras_private import raw


def lookup(table: Any, ids: Any, name: str | None = None) -> Any:
    """The rows of a table, as `tf.nn.embedding_lookup`, and up to date.

    With `sparse_update="exact"` what the optimizer owes to the rows is done before
    they are read. The first lookup prepares the table for that.

    Args:
        table: a `tf.Variable` or Keras variable, [rows, ...].
        ids: a `tf.Tensor` or `tf.RaggedTensor` of integers in [0, rows).
        name: a name for the operation. Default: None.

    Returns:
        A tensor of `ids`' shape followed by that of a row.
    """
    table = raw(table)
    for part in getattr(table, "variables", [table]):  # of a ShardedVariable
        if prepared.history_of(part) is None and prepared.can_prepare(part):
            prepared.prepare(part)
    return tf.nn.embedding_lookup(table, ids, name=name)


@tf.keras.utils.register_keras_serializable(package="tf_optim")
class Embedding(tf.keras.layers.Embedding):
    """`tf.keras.layers.Embedding`, whose rows are up to date when they are read.

    With an optimizer of `sparse_update="exact"` this layer gives the training of
    Keras' own layer and optimizer at the cost of the rows that a batch names. With
    any other optimizer it is Keras' layer. Arguments, weights and configuration are
    the same, so either one loads what the other has saved.
    """

    def build(self, input_shape: Any = None) -> None:
        """Makes the table."""
        super().build(input_shape)
        prepare(self)

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
        return tf.cast(lookup(table, inputs), self.compute_dtype)


def _plain_table(layer):
    """The table that a layer reads rows of; None if it reads something else."""
    if not keras_private.is_keras_3():
        table = getattr(layer, "embeddings", None)
        special = layer.sparse or layer._use_one_hot_matmul
    else:
        table = getattr(layer, "_embeddings", None)
        special = layer.lora_enabled or layer.quantization_mode
    return None if special or table is None else raw(table)


def prepare(model: Any) -> Any:
    """Makes a model's Embedding layers ours, in place.

    To be called before the model is traced: before `fit`, `evaluate` and `predict`
    and before a `tf.function` calls it. Weights stay as they are.

    Args:
        model: a model or layer of Keras.

    Returns:
        The model.
    """
    for layer in _layers(model):
        if type(layer) is tf.keras.layers.Embedding:
            layer.__class__ = Embedding
        if isinstance(layer, Embedding):
            table = _plain_table(layer)
            if table is not None and prepared.can_prepare(table):
                prepared.prepare(table)
    return model


def unprepare(model: Any) -> Any:
    """Makes a model's Embedding layers stock ones, in place, and up to date.

    Before a model is exported to where tf_optim is not: what is traced from then on
    has no op of ours. Training goes on with dense steps.

    Args:
        model: a model or layer of Keras.

    Returns:
        The model.
    """
    for layer in _layers(model):
        if isinstance(layer, Embedding):
            table = _plain_table(layer)
            if table is not None and prepared.history_of(table) is not None:
                prepared.unprepare(table)
            layer.__class__ = tf.keras.layers.Embedding
    return model


def _layers(model):
    return [model, *getattr(model, "_flatten_layers", list)()]
