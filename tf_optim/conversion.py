"""`fuse` and `unfuse`: between stock optimizers and ours, state included."""

from __future__ import annotations

import contextlib

import tensorflow as tf

from tf_optim import (
    averages,
    checks,
    exact,
    flavour,
    fused,
    keras_private,
    loss_scale,
    optimizers,
)
from tf_optim.annotations import SlotDtype, SparseUpdate

# Lists of what other attributes hold, or of the variables of the model.
NOT_STATE = ("_variables", "_trainable_variables", "_built_with")


def namesakes():
    """Stock classes and those of ours that inherit from them."""
    ours = [getattr(optimizers, name) for name in optimizers.__all__]
    pairs = [(getattr(tf.keras.optimizers, c.__name__, None), c) for c in ours]
    return [(stock, c) for stock, c in pairs if stock and issubclass(c, stock)]


def pairs():
    """Stock classes and those of ours that take their place."""
    return [(stock, c) for stock, c in namesakes() if c._spec.is_stocks_step]


_state_of_making = {"stock": False}


@contextlib.contextmanager
def making_stock():
    """A context in which stock's classes make stock's optimizers, patched or not."""
    before, _state_of_making["stock"] = is_making_stock(), True
    try:
        yield
    finally:
        _state_of_making["stock"] = before


def is_making_stock():
    """Whether `patch_keras` has nothing to say at the moment."""
    return _state_of_making["stock"]


def fuse(
    optimizer: tf.keras.optimizers.Optimizer,
    sparse_update: SparseUpdate | None = None,
    slot_dtype: SlotDtype | None = None,
) -> tf.keras.optimizers.Optimizer:
    """The tf_optim optimizer that goes on where a stock optimizer is.

    It has the configuration of `optimizer` and copies of all of its variables:
    iterations, learning rate, slots, accumulated gradients, moving averages. A
    schedule or callable is shared. `optimizer` itself is left as it is; to train a
    compiled model with the new one, compile it anew:

        model.compile(optimizer=tf_optim.fuse(model.optimizer), loss=model.loss)

    Args:
        optimizer: an optimizer of `tf.keras.optimizers`, built or not, or a
            `LossScaleOptimizer` around one.
        sparse_update: as in our classes. Default: `"lazy"`.
        slot_dtype: as in our classes. Default: `"float32"`.

    Returns:
        An optimizer of tf_optim, or a `LossScaleOptimizer` around one. One that is
        of tf_optim already is returned as it is. Slots and accumulated gradients
        of 16-bit variables become float32.

    Raises:
        ValueError: if we do not have the optimizer, or not with its options; if it
            is of tf_optim already with another `sparse_update` or `slot_dtype`.

    Example:

    >>> import tf_optim
    >>> opt = tf.keras.optimizers.RMSprop(learning_rate=0.1, rho=0.8)
    >>> tf_optim.fuse(opt).rho
    0.8
    """
    if _is_ours(optimizer):
        asked = {"sparse_update": sparse_update, "slot_dtype": slot_dtype}
        for name, value in asked.items():
            current = getattr(innermost(optimizer), name)
            if value is not None and value != current:
                raise ValueError(
                    f"`{name}` must be that of an optimizer that is fused already, "
                    f"{current!r}. Received: {name}={value!r}"
                )
        return optimizer
    mode = "lazy" if sparse_update is None else sparse_update
    checks.check_sparse_update(mode)
    classes = dict(pairs())

    def config(old):
        ours = {"sparse_update": mode, "slot_dtype": slot_dtype or "float32"}
        return {**_config(old), **ours}

    return _converted(optimizer, classes, config)


def unfuse(
    optimizer: tf.keras.optimizers.Optimizer,
) -> tf.keras.optimizers.Optimizer:
    """The stock optimizer that goes on where a tf_optim optimizer is.

    The way back from `fuse`. What stock does with sparse gradients is its own.

    Args:
        optimizer: an optimizer of tf_optim, built or not, or a
            `LossScaleOptimizer` around one.

    Returns:
        An optimizer of `tf.keras.optimizers`, or a `LossScaleOptimizer` around
        one. One that is stock already is returned as it is. Slots of 16-bit
        variables are rounded to 16 bits.

    Raises:
        ValueError: if stock does not have the optimizer, or has not an option that
            is in use (`decay`).
    """
    classes = {ours: stock for stock, ours in pairs()}
    if type(innermost(optimizer)) in classes.values():
        return optimizer
    with making_stock():
        return _converted(optimizer, classes, lambda old: _stock_config(old, classes))


def class_of(optimizer):
    """Its class; ours where `patch_keras` has made one for a stock class."""
    return vars(type(optimizer)).get("stands_for", type(optimizer))


def _is_wrapper(optimizer):
    return isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)


def innermost(optimizer):
    """What a `LossScaleOptimizer` wraps; any other as it is."""
    return optimizer.inner_optimizer if _is_wrapper(optimizer) else optimizer


def _is_ours(optimizer):
    return isinstance(innermost(optimizer), fused.Fused)


def _converted(old, classes, config_of):
    if _is_wrapper(old):
        # Not by its `get_config`, which would serialize the inner one's schedule.
        own = "name" if flavour.is_keras_3() else "dynamic"
        names = (own, "initial_scale", "dynamic_growth_steps")
        config = {name: getattr(old, name) for name in names}
        inner = _converted(old.inner_optimizer, classes, config_of)
        new = _wrapper(type(old), inner)(inner, **config)
    else:
        new = _made(old, classes, config_of)
    variables = flavour.built_with(old)
    if variables is not None:
        new.build(variables)
    exact.catch_up_all(old)
    averages.bring_up_to_date(old)
    if variables is not None and isinstance(old, fused.Fused):
        old._ready_to_hand_on()
    for old_variable, new_variable in _state(old, new):
        value = tf.cast(keras_private.raw(old_variable), new_variable.dtype)
        new_variable.assign(value)
    if hasattr(new, "_u_product_counter"):  # of tf_keras' Nadam, a number of Python's
        new._u_product_counter = int(new.iterations) + 1
    return new


def _wrapper(cls, inner):
    """Ours around ours, stock's around stock's; a class of a user's as it is."""
    if cls not in (loss_scale.LossScaleOptimizer, loss_scale.STOCK):
        return cls
    ours = isinstance(inner, fused.Fused)
    return loss_scale.LossScaleOptimizer if ours else loss_scale.STOCK


def _made(old, classes, config_of):
    """A new optimizer of the other make, with the same configuration."""
    cls = classes.get(class_of(old))
    if cls is None:
        expected = ", ".join(sorted(_name(each) for each in classes))
        raise ValueError(
            f"`optimizer` must be one of {expected}, or a LossScaleOptimizer around "
            f"one. Received: {_name(type(old))}."
        )
    config = config_of(old)
    rate = old._learning_rate  # or the schedule or callable itself
    config["learning_rate"] = float(rate.numpy()) if _is_variable(rate) else rate
    new = cls(**config)
    for name, value in vars(old).items():
        # Set by `exclude_from_weight_decay`.
        if name.startswith("_exclude_from_weight_decay") and "cache" not in name:
            kind = next((k for k in (set, list) if isinstance(value, k)), None)
            setattr(new, name, kind(value) if kind else value)
    return new


def _name(cls):
    for stock, ours in pairs():
        if cls in (stock, ours):
            room = "tf.keras.optimizers" if cls is stock else "tf_optim"
            return f"{room}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__name__}"


def _config(optimizer):
    """As `get_config`, but without a schedule or callable: some cannot be saved."""
    shadow = object.__new__(type(optimizer))
    vars(shadow).update(vars(optimizer), _learning_rate=0.0)
    return shadow.get_config()


def _stock_config(old, classes):
    cls = class_of(old)
    stock = classes[cls]
    config = _config(old)
    for name in ("sparse_update", "slot_dtype", "stochastic_rounding"):
        config.pop(name, None)
    config.pop("jit_compile", None)  # stock's own choice
    defaults = cls().get_config()
    for name in config.keys() - stock().get_config().keys():
        value = config.pop(name)
        if name not in defaults or value != defaults[name]:
            raise ValueError(
                f"`{name}` must be left out for an optimizer that is to become "
                f"{_name(stock)}, which does not have it. Received: {name}={value!r}"
            )
    return config


def _is_variable(value):
    kinds = (tf.Variable,)
    if flavour.is_keras_3():
        kinds += (tf.keras.Variable,)
    return isinstance(value, kinds)


def _state(old, new):
    """Pairs of variables that hold the same thing, of two optimizers of one kind."""
    for name, value in vars(old).items():
        if name in NOT_STATE:
            continue
        if _is_variable(value):
            yield value, getattr(new, name)
        elif isinstance(value, list) and any(map(_is_variable, value)):
            pairs = zip(value, getattr(new, name), strict=True)
            yield from (pair for pair in pairs if _is_variable(pair[0]))
    scale = getattr(old, "_loss_scale", None)  # of tf_keras' LossScaleOptimizer
    if hasattr(scale, "current_loss_scale"):
        yield scale.current_loss_scale, new._loss_scale.current_loss_scale
        yield scale.counter, new._loss_scale.counter
