"""`patch_keras`: whoever makes a stock optimizer gets ours, without a changed line.

The constructor of each stock class is the one seam. Names that were imported before,
strings in `compile`, `get` and `deserialize` all end there, so none of them has to be
found and exchanged. What comes out is an instance of our class, which is a subclass
of the stock one.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import gc
import inspect
import logging
import sys
import time
from collections.abc import Iterable

import tensorflow as tf

from tf_optim import (
    checks,
    conversion,
    embedding,
    exact,
    flavour,
    fused,
    keras_private,
    loss_scale,
    tallies,
)
from tf_optim.annotations import SparseUpdate
from tf_optim.runner import SPARSE_UPDATES

_LOG = logging.getLogger("tf_optim")
_STEP = "apply" if flavour.is_keras_3() else "apply_gradients"
# Made by Keras around an optimizer, or in its place for a moment.
_NOT_CHOSEN = ("MultiOptimizer", "RestoredOptimizer")
_NOT_IN_STOCK = (
    *("sparse_update", "use_locking", "slot_dtype", "stochastic_rounding"),
    *("cautious", "averaging"),
)


@dataclasses.dataclass
class _Patch:
    """What `patch_keras` has done."""

    sparse_update: str = SPARSE_UPDATES[0]
    verbose: bool = False
    constructors: dict = dataclasses.field(default_factory=dict)
    tallies: dict = dataclasses.field(default_factory=dict)
    said: set = dataclasses.field(default_factory=set)
    says_at_exit: bool = False


_patch = _Patch()


def patch_keras(
    names: Iterable[str] | None = None,
    sparse_update: SparseUpdate = SPARSE_UPDATES[0],
    verbose: bool = False,
) -> list[str]:
    """Makes Keras give our optimizers wherever a stock one is asked for.

    From now on `tf.keras.optimizers.Adam(...)`, `compile(optimizer="adam")`,
    `tf.keras.optimizers.get` and `deserialize` return optimizers of tf_optim, under
    whatever name the class was imported. They are instances of the stock classes too,
    and a saved model names the stock class, so that it loads where tf_optim is not
    installed.

    What stays stock: optimizers that exist already (`tf_optim.fuse` converts one),
    subclasses of stock's classes, optimizers that tf_optim does not have,
    `keras.optimizers.legacy`, and an optimizer with an argument that tf_optim
    refuses. Each of these is logged once. With `tf.keras` being Keras 3, the
    optimizers of `tf_keras` stay as they are, and the reverse.

    A second call replaces the first one's choices.

    Args:
        names: names of the classes to replace, as in `["Adam", "SGD"]`. Default:
            all that tf_optim has.
        sparse_update: what the sparse gradient of an embedding changes, as in our
            classes. `"dense"` trains as stock does, but for ids that occur twice in
            a batch, whose gradients stock squares one by one; `"exact"` does the
            same at the cost of the rows, and replaces `tf.keras.layers.Embedding`
            too; `"lazy"` is as fast for large tables and trains differently.
            Default: `"dense"`.
        verbose: whether to log each optimizer that is replaced, and to print a
            summary when Python ends.

    Returns:
        The names of the classes that are replaced.

    Raises:
        ValueError: for a name that tf_optim does not have, or a wrong mode.
        RuntimeError: if Keras' backend is not TensorFlow.

    Example:

    >>> import tf_optim
    >>> tf_optim.patch_keras(["Adam"])
    ['Adam']
    >>> isinstance(tf.keras.optimizers.get("adam"), tf_optim.Adam)
    True
    >>> tf_optim.unpatch_keras()
    >>> isinstance(tf.keras.optimizers.get("adam"), tf_optim.Adam)
    False
    """
    chosen = replace(names, sparse_update, verbose)
    if verbose and not _patch.says_at_exit:
        _patch.says_at_exit = True
        atexit.register(lambda: print(f"tf_optim: {summary()}.", file=sys.stderr))
    return chosen


def replace(names, sparse_update, verbose):
    """`patch_keras`, but for the summary at the end."""
    checks.check_sparse_update(sparse_update)
    pairs = {ours.__name__: (stock, ours) for stock, ours in conversion.pairs()}
    chosen = _chosen(names, pairs)
    backend = tf.keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"Keras' backend must be tensorflow. Received: backend {backend}."
        )
    unpatch_keras()
    _patch.sparse_update, _patch.verbose = sparse_update, verbose
    _say_which_are_there([pairs[name][0] for name in chosen])
    for name in chosen:
        _replace(*pairs[name])
    if sparse_update in exact.MODES:
        _replace_layers(tf.keras.layers.Embedding)
    _replace_wrapper(loss_scale.STOCK)
    watch()
    return chosen


def unpatch_keras() -> None:
    """Undoes `patch_keras`. Optimizers that were made since stay what they are."""
    for cls, constructor in _patch.constructors.items():
        cls.__init__ = constructor
    _patch.constructors.clear()


def _chosen(names, pairs):
    if names is None:
        return [*pairs]
    is_one = isinstance(names, str) or not isinstance(names, Iterable)
    chosen = [names] if is_one else list(names)
    if not chosen or any(name not in pairs for name in chosen):
        raise ValueError(
            f"`names` must be of {', '.join(pairs)}. Received: names={names!r}"
        )
    return chosen


# --- replacing


def _replace(stock, ours):
    """Gives the stock class a constructor that makes an object of ours."""
    constructor = stock.__init__
    stand_in = _stand_in(stock, ours, inspect.signature(constructor))

    @functools.wraps(constructor)
    def __init__(self, *args, **kwargs):
        if type(self) is not stock or conversion.is_making_stock():
            constructor(self, *args, **kwargs)
            return
        # Not in `__new__`, which copies and unpickled objects go through as well.
        object.__setattr__(self, "__class__", stand_in)
        try:
            stand_in.__init__(self, *args, **kwargs)
        except (TypeError, ValueError) as error:
            object.__setattr__(self, "__class__", stock)
            vars(self).clear()
            with conversion.making_stock():
                constructor(self, *args, **kwargs)  # or it is the script's mistake
            _say_once(f"{_name(stock)} with these arguments", f"tf_optim says: {error}")

    _patch.constructors[stock] = constructor
    stock.__init__ = __init__


def _replace_layers(stock):
    """Gives stock's Embedding a constructor that makes a layer of ours."""
    constructor = stock.__init__
    # Saved under stock's name.
    members = {"__module__": "keras.layers", "__doc__": stock.__doc__}
    members |= keras_private.pickled_as(stock, embedding.Embedding)
    stand_in = type(stock.__name__, (embedding.Embedding,), members)

    @functools.wraps(constructor)
    def __init__(self, *args, **kwargs):
        if type(self) is stock:
            embedding.become(self, stand_in)
        constructor(self, *args, **kwargs)

    # Keras' layers ask `inspect.getfullargspec`, which does not follow `__wrapped__`.
    __init__.__signature__ = inspect.signature(constructor)
    _patch.constructors[stock] = constructor
    stock.__init__ = __init__


def _replace_wrapper(stock):
    """Lets stock's LossScaleOptimizer be ours if it is made around one of ours.

    `compile` makes one under the policy "mixed_float16".
    """
    constructor = stock.__init__
    members = {"__module__": stock.__module__, "__doc__": stock.__doc__}
    members |= keras_private.pickled_as(stock, loss_scale.LossScaleOptimizer)
    stand_in = type(stock.__name__, (loss_scale.LossScaleOptimizer,), members)

    @functools.wraps(constructor)
    def __init__(self, *args, **kwargs):
        constructor(self, *args, **kwargs)
        if type(self) is stock and isinstance(self.inner_optimizer, fused.Fused):
            object.__setattr__(self, "__class__", stand_in)

    _patch.constructors[stock] = constructor
    stock.__init__ = __init__


def _stand_in(stock, ours, signature):
    """Our class with stock's signature, and saved under stock's name."""
    instance = next(iter(signature.parameters))
    kinds = {each.kind: name for name, each in signature.parameters.items()}
    rest = kinds.get(inspect.Parameter.VAR_KEYWORD)
    step_of_ours = getattr(ours, _STEP)

    @functools.wraps(stock.__init__)
    def __init__(self, *args, **kwargs):
        arguments = dict(signature.bind(self, *args, **kwargs).arguments)
        del arguments[instance]
        arguments |= arguments.pop(rest, {})
        mode = _patch.sparse_update
        if mode in exact.MODES and ours._spec.needs_whole_table:
            mode = "dense"
        arguments.setdefault("sparse_update", mode)
        ours.__init__(self, **arguments)
        _note(self)

    def get_config(self):
        config = ours.get_config(self)
        return {k: v for k, v in config.items() if k not in _NOT_IN_STOCK}

    @functools.wraps(step_of_ours)
    @tf.autograph.experimental.do_not_convert
    def step(self, *args, **kwargs):
        if not tf.executing_eagerly():
            return step_of_ours(self, *args, **kwargs)
        tally, start = _patch.tallies[stock.__name__], time.perf_counter()
        try:
            return step_of_ours(self, *args, **kwargs)
        finally:
            tally.calls += 1
            tally.seconds += time.perf_counter() - start

    members = {
        "__doc__": ours.__doc__,
        "__init__": __init__,
        "__module__": "keras.optimizers",  # and so a saved model names it
        "get_config": get_config,
        "stands_for": ours,
        _STEP: step,
    }
    members |= keras_private.pickled_as(stock, ours)
    return type(stock.__name__, (ours,), members)


def _note(optimizer):
    name = type(optimizer).__name__
    _patch.tallies.setdefault(name, tallies.Tally(name)).add(optimizer)
    if _patch.verbose:
        said = _name(type(optimizer)), optimizer.sparse_update
        _LOG.warning("%s is made by tf_optim, with sparse_update=%r.", *said)


def _name(cls):
    if cls.__module__.partition(".")[0] in ("keras", "tf_keras"):
        legacy = ".legacy" if ".legacy." in cls.__module__ else ""
        return f"{cls.__module__.partition('.')[0]}.optimizers{legacy}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


# --- what is left alone


def _say_once(what, why):
    if (what, why) not in _patch.said:
        _patch.said.add((what, why))
        _LOG.warning("tf_optim leaves %s as it is: %s", what, why)


def _say_which_are_there(classes):
    """Optimizers made before may have slots, and a function traced with them."""
    if not _count(classes):  # the rule, and quickly found out
        return
    gc.collect()
    if there := _count(classes):
        _LOG.warning(
            "tf_optim leaves %d optimizer(s) that exist already as they are: only "
            "those made from now on are replaced. `tf_optim.fuse` converts one.",
            there,
        )


def _count(classes):
    """How many objects of the classes themselves there are."""
    return sum(type(each) in classes for each in gc.get_referrers(*classes))


def watch():
    """Says once of each class of optimizers that is left alone, when it is used.

    To be called again when another Keras has been imported.
    """
    for module in ("keras.optimizers", "tf_keras.optimizers"):
        module = sys.modules.get(module)
        legacy = getattr(module, "legacy", None)
        for room in (module, legacy):
            base = getattr(room, "Optimizer", None)
            if isinstance(base, type) and base not in _patch.constructors:
                _watch(base)


def _watch(base):
    constructor = base.__init__

    @functools.wraps(constructor)
    def __init__(self, *args, **kwargs):
        constructor(self, *args, **kwargs)
        if not (isinstance(self, fused.Fused) or conversion.is_making_stock()):
            _say_why_not(type(self))

    _patch.constructors[base] = constructor
    base.__init__ = __init__


def _say_why_not(cls):
    if "LossScale" in cls.__name__ or cls.__name__ in _NOT_CHOSEN:
        return  # what counts is the optimizers in it
    stock = {stock.__name__: stock for stock, _ in conversion.pairs()}
    room, own = _name(cls).rpartition(".")[0], cls.__module__.partition(".")[0]
    if cls in _patch.constructors:
        return  # said with its reason
    if cls in stock.values():
        why = "`names` does not have it."
    elif own not in ("keras", "tf_keras"):
        why = "it is a class of its own."
    elif cls.__name__ in stock and not room.endswith("legacy"):
        other = "0" if own == "keras" else "1"
        why = f"tf.keras is another Keras. Set TF_USE_LEGACY_KERAS={other}."
    else:
        why = "tf_optim has no counterpart."
    _say_once(_name(cls), why)


# --- at the end


def summary():
    """One line: what was replaced, how many steps it took, and their time."""
    return tallies.summary([tally for tally in _patch.tallies.values() if tally.made])
