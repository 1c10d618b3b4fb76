"""What stands in for the stock class of an optimizer that Keras lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_optim import keras_private


class Optimizer(tf.keras.optimizers.Optimizer):  # type: ignore[misc]
    """A Keras optimizer of the arguments and slots that its class speaks of.

    Beside `flavour.FusedOptimizer`, which brings the step:

        class Yogi(flavour.FusedOptimizer, base.Optimizer):

    Its own arguments become attributes and are in its configuration. Its slots are
    those of its `_spec`.
    """

    _spec: Any
    _own_arguments: tuple[str, ...]

    def __init__(self, learning_rate: Any, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name) for name in self._own_arguments if name in kwargs}
        if keras_private.is_keras_3():
            super().__init__(learning_rate=learning_rate, **kwargs)
        else:
            super().__init__(**kwargs)
            self._learning_rate = self._build_learning_rate(learning_rate)
        for name, value in own.items():
            setattr(self, name, value)

    def build(self, variables: Iterable[Any]) -> None:
        """Makes the slots; those whose option is off are left out."""
        variables = list(variables)
        super().build(variables)
        make_slots(self, variables)
        self._make_numbers()

    def _make_numbers(self) -> None:
        """Makes variables that a class has beside its slots."""

    def get_config(self) -> dict[str, Any]:
        """Keras' configuration, and the class's own arguments."""
        config = super().get_config()
        if not keras_private.is_keras_3():
            rate = self._serialize_hyperparameter(self._learning_rate)
            config["learning_rate"] = rate
        own = (name for name in self._own_arguments if hasattr(self, name))
        return {**config, **{name: getattr(self, name) for name in own}}


def make_slots(optimizer, variables, by_variable=False):
    """Makes the slots of an optimizer that is built but for them.

    Their order is that of files: slot by slot, or variable by variable as in Keras 3.
    """
    slots = [slot for slot in optimizer._spec.slots if optimizer._has_slot(slot)]
    made = {slot.attribute: [] for slot in slots}
    order = [(slot, variable) for slot in slots for variable in variables]
    if by_variable:
        order = [(slot, variable) for variable in variables for slot in slots]
    for slot, variable in order:
        made[slot.attribute].append(optimizer._make_slot(variable, slot))
    for attribute, variables_of_slot in made.items():
        setattr(optimizer, attribute, variables_of_slot)
    optimizer._mark_built()


def stock(name):
    """The stock class of this name; `Optimizer` in a Keras that lacks it."""
    return getattr(tf.keras.optimizers, name, Optimizer)
