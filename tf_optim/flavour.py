"""Which Keras `tf.keras` is, decided once at import."""

import tensorflow as tf

from tf_optim import spellings


def is_keras_3():
    """True for Keras 3, False for tf_keras (`TF_USE_LEGACY_KERAS=1`)."""
    return hasattr(tf.keras, "ops")


if is_keras_3():
    from tf_optim.keras3 import FusedOptimizer, built_with
else:
    from tf_optim.tf_keras import FusedOptimizer, built_with


def register(cls):
    """Class decorator of our optimizers: Keras finds them, old spellings work."""
    name = tf.keras.utils.register_keras_serializable(package="tf_optim")
    return name(spellings.accept(cls))


__all__ = ["FusedOptimizer", "built_with", "is_keras_3", "register"]
