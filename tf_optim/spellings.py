"""Old spellings that keep working: `lr`, `decay`, `epsilon=None` and others.

Each warns with a DeprecationWarning that says what to write instead.
"""

from __future__ import annotations

import functools
import sys
import warnings
from typing import Any, TypeVar

import tensorflow as tf

from tf_optim import arguments, keras_private
from tf_optim.annotations import LearningRate, Mixin

Class = TypeVar("Class")


def _warn(old, new, stacklevel):
    warnings.warn(
        f"`{old}` is an old spelling: {new}.", DeprecationWarning, stacklevel + 1
    )


def _warn_of_lr():
    """Unless it is tf_keras that uses the attribute: its callbacks do."""
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if caller.partition(".")[0] != "tf_keras":
        _warn("lr", "use `learning_rate`", 3)


def _schedule(learning_rate):
    kind = tf.keras.optimizers.schedules.LearningRateSchedule
    return learning_rate if isinstance(learning_rate, kind) else None


# Those whose default it was in Keras 2.
_EPSILON_NONE = ("Adadelta", "Adagrad", "Adam", "Adamax", "Nadam", "RMSprop")


# Those that have it of their own: it is in the step that they take.
_DECAY_IN_THE_STEP = ("Lamb", "LARS", "NovoGrad")


def _translate(name, given, stacklevel):
    """Rewrites the keyword arguments in place; returns the value of `decay`."""
    if "lr" in given:
        if "learning_rate" in given:
            raise ValueError(
                "`lr` is the old spelling of `learning_rate`: only one of them can be "
                f"set. Received: learning_rate={given['learning_rate']!r}, "
                f"lr={given['lr']!r}"
            )
        _warn("lr", "use `learning_rate`", stacklevel + 1)
        given["learning_rate"] = given.pop("lr")
    if "weight_decay_rate" in given and name not in _DECAY_IN_THE_STEP:
        if given.get("weight_decay") is not None:
            raise ValueError(
                "`weight_decay_rate` is an old spelling of `weight_decay`: only one of "
                f"them can be set. Received: weight_decay={given['weight_decay']!r}, "
                f"weight_decay_rate={given['weight_decay_rate']!r}"
            )
        _warn("weight_decay_rate", "use `weight_decay`", stacklevel + 1)
        given["weight_decay"] = given.pop("weight_decay_rate")
    if name in _EPSILON_NONE and given.get("epsilon", 0) is None:
        default = tf.keras.backend.epsilon()
        _warn("epsilon=None", f"it means epsilon={default:g}", stacklevel + 1)
        given["epsilon"] = default
    decay = given.pop("decay", None)
    if decay is not None:
        instead = "use `tf.keras.optimizers.schedules.InverseTimeDecay`"
        _warn("decay", instead, stacklevel + 1)
    return decay


def accept(cls: type[Class]) -> type[Class]:
    """Class decorator: its constructor takes the old spellings too.

    And all arguments that optimizers share, by position as well; and it checks them
    once the class's own constructor has run.
    """
    init = arguments.constructor_of(cls)
    signature = arguments.complete(cls)
    default_name = signature.parameters["name"].default

    def __init__(self, *args, **kwargs):
        given = dict(signature.bind_partial(self, *args, **kwargs).arguments)
        del given["self"]
        given |= given.pop("kwargs", {})
        given.setdefault("name", default_name)
        decay = _translate(cls.__name__, given, stacklevel=2)
        init(self, **given)
        if self._spec is cls._spec:  # else a class below has arguments to set yet
            self._check_hyperparameters()
        if decay is not None:
            self._set_decay(decay)

    wrapper: Any = functools.update_wrapper(__init__, cls.__init__)
    wrapper.__signature__ = signature
    cls.__init__ = wrapper  # type: ignore[method-assign]
    return cls


class OldSpellings(Mixin):
    """What the old spellings do after construction.

    With `decay` > 0 the step number i, from 0, uses the learning rate
    `learning_rate / (1 + decay * i)`; `learning_rate` itself stays what was set.
    """

    decay = 0.0

    def _set_decay(self, decay):
        number = isinstance(decay, (int, float)) and not isinstance(decay, bool)
        if not number or not 0 <= decay < float("inf"):
            raise ValueError(
                f"`decay` must be a finite number >= 0. Received: decay={decay!r}"
            )
        if decay and _schedule(self._learning_rate):
            self._refuse_schedule(self._learning_rate, decay)
        self.decay = float(decay)

    def _refuse_schedule(self, learning_rate, decay):
        raise ValueError(
            "`learning_rate` must be a number where `decay` is given: a schedule "
            f"decays by itself. Received: learning_rate={learning_rate!r}, "
            f"decay={decay!r}"
        )

    def _decayed(self, learning_rate):
        """The learning rate of the step to come."""
        if not self.decay:
            return learning_rate
        learning_rate = tf.convert_to_tensor(learning_rate)
        # The count that schedules see.
        steps = tf.cast(keras_private.count(self), learning_rate.dtype)
        return learning_rate / (1.0 + self.decay * steps)

    def get_config(self) -> dict[str, Any]:
        """The stock class's configuration, and `decay` where there is one."""
        decay = {"decay": self.decay} if self.decay else {}
        return {**super().get_config(), **decay}

    @property
    def learning_rate(self) -> Any:
        """The learning rate: a variable, or a schedule's or a callable's value."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        if self.decay and _schedule(value):
            self._refuse_schedule(value, self.decay)
        super(OldSpellings, type(self)).learning_rate.fset(self, value)

    @property
    def lr(self) -> Any:
        """Old spelling of `learning_rate`."""
        _warn_of_lr()
        return self.learning_rate

    def __setattr__(self, name, value):
        if name == "lr":  # not a property's setter: Keras 3 reads before it sets
            _warn_of_lr()
            name = "learning_rate"
        super().__setattr__(name, value)

    def __dir__(self):
        # TensorFlow reads every attribute listed here when it saves a model.
        return [name for name in super().__dir__() if name != "lr"]
