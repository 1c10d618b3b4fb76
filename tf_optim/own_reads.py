"""Variables that are read by their methods alone.

TensorFlow's eager ops do not ask a variable for its value: where `_handle` is an eager
tensor they read what lies behind it themselves. A class of ours whose reading does
more hides it from them; they ask the variable then, as they do in a graph.
"""

from __future__ import annotations

import functools

# Methods that read more than some rows, and those that set any.
_READS = ("value", "read_value", "read_value_no_copy", "gather_nd")
_SETS = (
    "assign",
    "assign_add",
    "assign_sub",
    "batch_scatter_update",
    *(
        f"scatter_{kind}"
        for kind in ["add", "div", "max", "min", "mul", "sub", "update"]
    ),
    *(f"scatter_nd_{kind}" for kind in ["add", "max", "min", "sub", "update"]),
    "_restore_from_tensors",
)
METHODS = _READS + _SETS


class _Hidden:
    """A handle that is no eager tensor, with all that one has."""

    def __init__(self, handle):
        self._tf_optim_hidden = handle

    def __getattr__(self, name):
        return getattr(self._tf_optim_hidden, name)


class OwnReads:
    """Mixed into the class of a `tf.Variable`, before it."""

    @property
    def _handle(self):
        return _Hidden(vars(self)["_handle"])

    @_handle.setter
    def _handle(self, value):
        vars(self)["_handle"] = value

    @property
    def handle(self):
        """The resource."""
        return vars(self)["_handle"]


def class_for(mixin, base):
    """A class of variables whose methods do something else first.

    Args:
        mixin: an `OwnReads` with a method `_around(sets)`, which returns a context for
            stock's method; `sets` says whether that sets the variable.
        base: the class of a `tf.Variable`.
    """

    def method(name):
        stock = getattr(base, name)

        @functools.wraps(stock)
        def call(self, *args, **kwargs):
            with self._around(name in _SETS):
                return stock(self, *args, **kwargs)

        return call

    members = {name: method(name) for name in METHODS}
    members["__module__"] = base.__module__
    return type(base.__name__, (mixin, base), members)
