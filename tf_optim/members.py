"""What each step has to know of an optimizer's variables, found out once."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tf_optim import checks, keras_private, packed


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """One variable of an optimizer.

    Attributes:
        given: as it was given, a variable of Keras or TensorFlow.
        variable: its `tf.Variable`.
        number: its place among those that the optimizer was built with.
        slots: a `tf.Variable` for each slot of the spec, or None where it is absent.
        packs: whether some of them are packed.
    """

    given: Any
    variable: tf.Variable
    number: int
    slots: tuple[tf.Variable | None, ...]
    packs: bool


class Members:
    """The members of an optimizer."""

    def __init__(self):
        self._found = {}
        self._has_slots = None

    def of(self, optimizer, variables):
        """A list with the `Member` of each variable.

        Raises:
            ValueError: (KeyError in tf_keras) for a variable that is none of the
                optimizer's, or one that it cannot update.
        """
        members = [self._found.get(id(variable)) for variable in variables]
        for i, variable in enumerate(variables):
            if members[i] is None:
                members[i] = self._find(optimizer, variable)
        return members

    def forget_unless(self, has_slots):
        """To be told which slots of the spec take part in a step."""
        if has_slots != self._has_slots:
            self._found.clear()
            self._has_slots = has_slots

    def _find(self, optimizer, variable):
        number = keras_private.index_of(optimizer, variable)
        slots = tuple(
            slot if optimizer._has_slot(each) else None  # an option is off by now
            for each, slot in zip(
                optimizer._spec.slots,
                keras_private.slots_of(optimizer, variable),
                strict=True,
            )
        )
        packs = any(map(packed.is_packed, slots))
        member = Member(variable, keras_private.raw(variable), number, slots, packs)
        for each in (member.variable, *slots):
            checks.check_layout(each)
        checks.check_dtype(member.variable)
        # What stands for a variable in a function's arguments is gone with it.
        if keras_private.built_with(optimizer)[number] is variable:
            self._found[id(variable)] = member
        return member
