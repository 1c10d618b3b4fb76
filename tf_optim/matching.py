"""Which variables a list of regular expressions names.

Keras 3's variables have a path ("dense/kernel"), others a name ("dense/kernel:0").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tf_optim import checks, keras_private


def path_of(optimizer, variable):
    """The path or name of a variable, as the optimizer was built with it."""
    if not optimizer._is_built():
        return keras_private.path_of(variable)
    index = keras_private.index_of(optimizer, variable)
    return keras_private.path_of(keras_private.built_with(optimizer)[index])


def is_named(optimizer, variable, patterns):
    """Whether one of the patterns occurs in the variable's path."""
    return bool(patterns) and occurs_in(patterns, path_of(optimizer, variable))


def occurs_in(patterns, path):
    """Whether one of the patterns occurs in a path."""
    return any(re.search(pattern, path) for pattern in patterns)


def checked(name, patterns):
    """The regular expressions of an argument as a tuple, empty for None.

    Raises:
        ValueError: if one of them is none.
    """
    if patterns is None or isinstance(patterns, str):
        patterns = () if patterns is None else (patterns,)
    if not isinstance(patterns, Iterable):
        raise ValueError(
            f"`{name}` must be a list of regular expressions, or None. Received: "
            f"{patterns!r}"
        )
    patterns = tuple(patterns)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"`{name}` must have regular expressions. Received: {pattern!r}, which "
                f"is none ({error})."
            ) from None
    return patterns


class Factors:
    """What the learning rate is multiplied by, by a pattern of a variable's path."""

    def __init__(self, by_pattern):
        by_pattern = {} if by_pattern is None else by_pattern
        if not isinstance(by_pattern, Mapping):
            raise ValueError(
                "`learning_rate_multipliers` must be a dict of regular expressions "
                f"and numbers, or None. Received: {by_pattern!r}"
            )
        checked("learning_rate_multipliers", by_pattern)
        for pattern, factor in by_pattern.items():
            number = checks.static_value(factor)
            if number is None or not 0 <= number < float("inf"):
                raise ValueError(
                    "`learning_rate_multipliers` must have finite numbers >= 0. "
                    f"Received: {factor!r} for {pattern!r}."
                )
        self.by_pattern = {key: float(value) for key, value in by_pattern.items()}

    def of(self, optimizer, variable):
        """The factor of the first pattern that is in the variable's path, or 1."""
        if not self.by_pattern:
            return 1.0
        path = path_of(optimizer, variable)
        found = (f for p, f in self.by_pattern.items() if re.search(p, path))
        return next(found, 1.0)
