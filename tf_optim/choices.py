"""Which of a model's variables belong to which of several optimizers."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tf_optim import keras_private, matching
from tf_optim.keras_private import raw

ARGUMENT = "optimizers_and_variables"


def _is_of_configuration(which):
    return isinstance(which, Mapping) and set(which) == {"numbers", "of", "paths"}


class _Choice:
    """Which variables are an optimizer's."""

    def __init__(self, which):
        self._asked = self._numbers = self._saved = None
        self._patterns = self._owners = ()
        self._takes_all = which is None
        if which is None:
            return
        if callable(which) and not hasattr(which, "variables"):
            self._asked = which
            return
        if not isinstance(which, list | tuple):
            which = [which]
        if all(isinstance(each, str) for each in which):
            self._patterns = matching.checked(ARGUMENT, which)
        elif all(type(each) is int for each in which):
            self._numbers = frozenset(which)
        elif len(which) == 1 and _is_of_configuration(which[0]):
            (self._saved,) = which
        else:
            for each in which:
                if not (hasattr(each, "variables") or hasattr(each, "assign")):
                    raise ValueError(
                        f"The variables in `{ARGUMENT}` must be None, a function, or "
                        "regular expressions, variables or layers, or a list of one of "
                        f"these kinds. Received: {each!r}"
                    )
            self._owners = tuple(which)

    def taker(self, count):
        """A function of a variable's number and the variable: whether it is chosen.

        Args:
            count: how many variables there are.
        """
        if self._takes_all:
            return lambda number, variable: True
        if self._asked:
            return lambda number, variable: bool(self._asked(variable))
        if self._numbers is not None:
            return lambda number, variable: number in self._numbers
        if self._saved is not None:
            if count == self._saved["of"]:
                return lambda number, variable: number in self._saved["numbers"]
            # Others are frozen now: what the same numbers have is another part.
            paths = self._saved["paths"]
            if paths is None:
                raise ValueError(
                    "A MultiOptimizer whose variables a function has chosen must be "
                    f"loaded for as many variables, {self._saved['of']}: no layer may "
                    f"be frozen or released since. Received: {count} variables."
                )
            return lambda number, variable: keras_private.path_of(variable) in paths
        if self._patterns:
            names = matching.occurs_in
            return lambda number, variable: names(
                self._patterns, keras_private.path_of(variable)
            )
        ids = {id(raw(variable)) for variable in self._named()}
        return lambda number, variable: id(raw(variable)) in ids

    def _named(self):
        """The variables that were given, those of layers that are frozen too."""
        return [
            v for owner in self._owners for v in getattr(owner, "variables", [owner])
        ]

    def config(self, numbers, count):
        """What makes it again: numbers and paths of variables if nothing else does.

        Args:
            numbers: those of the variables that it has taken; None before it has.
            count: of how many.
        """
        if self._takes_all:
            return None
        if self._patterns:
            return list(self._patterns)
        if self._numbers is not None:
            return sorted(self._numbers)
        if self._saved is not None:
            return dict(self._saved)
        if numbers is not None:
            named = map(keras_private.path_of, self._named())
            paths = None if self._asked else list(named)
            return {"numbers": list(numbers), "of": count, "paths": paths}
        if self._asked:
            return tf.keras.utils.serialize_keras_object(self._asked)
        raise ValueError(
            "The configuration of a MultiOptimizer that was given variables or layers "
            "has their numbers: it must be built first. Received: one that is not."
        )


class Shares:
    """Which variables each optimizer has. Keras and checkpoints do not look into it."""

    def __init__(self, which):
        self.choices = [_Choice(each) for each in which]
        self.numbers = [None] * len(self.choices)
        self.count = None
        self._owner = {}

    def share_out(self, variables):
        """Lists of variables, one for each optimizer.

        Raises:
            ValueError: for a variable that none takes.
        """
        takers = [choice.taker(len(variables)) for choice in self.choices]
        numbers = [[] for _ in takers]
        for number, variable in enumerate(variables):
            taken = (i for i, takes in enumerate(takers) if takes(number, variable))
            owner = next(taken, None)
            if owner is None:
                raise ValueError(
                    "Each variable must be taken by one of the optimizers; a last pair "
                    "`(optimizer, None)` takes all others. Received: "
                    f"'{keras_private.path_of(variable)}', which none takes."
                )
            numbers[owner].append(number)
        self.numbers, self.count = numbers, len(variables)
        self._owner = {
            id(raw(variables[number])): owner
            for owner, mine in enumerate(numbers)
            for number in mine
        }
        return [[variables[number] for number in mine] for mine in numbers]

    def parts_of(self, pairs):
        """Pairs of gradient and variable, a list for each optimizer."""
        parts = [[] for _ in self.choices]
        for gradient, variable in pairs:
            parts[self.owner_of(variable)].append((gradient, variable))
        return parts

    def owner_of(self, variable):
        """The number of the optimizer that has a variable.

        Raises:
            ValueError: if none has it.
        """
        owner = self._owner.get(id(raw(variable)))
        if owner is None:
            raise ValueError(
                "Each variable must be one that the optimizer was built with: call "
                "`build` with all that are ever to be updated, or make a new one. "
                f"Received: '{keras_private.path_of(variable)}'."
            )
        return owner
