"""Which Keras `tf.keras` is, decided once at import."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import tensorflow as tf

from tf_optim import specs, spellings
from tf_optim.arguments import handed_on
from tf_optim.keras_private import is_keras_3

if TYPE_CHECKING or is_keras_3():
    from tf_optim.keras3 import FusedOptimizer, built_with
else:
    from tf_optim.tf_keras import FusedOptimizer, built_with


def register(cls: type[spellings.Class]) -> type[spellings.Class]:
    """Class decorator of our optimizers: Keras finds them, old spellings work.

    The arguments that all share are in its signature and its documentation, and
    `specs.SPECS` has its `_spec`.
    """
    known = vars(cls).get("_spec")
    if known is not None:
        spec = dataclasses.replace(known, name=cls.__name__)
        setattr(cls, "_spec", spec)  # noqa: B010
        if known.is_rule:
            specs.SPECS[cls.__name__] = spec
    name = tf.keras.utils.register_keras_serializable(package="tf_optim")
    return name(spellings.accept(cls))


__all__ = ["FusedOptimizer", "built_with", "handed_on", "is_keras_3", "register"]
