"""Variables that are read by their methods alone.

TensorFlow's eager ops do not ask a variable for its value: where `_handle` is an eager
tensor they read what lies behind it themselves. A class of ours whose reading does
more hides it from them; they ask the variable then, as they do in a graph.
"""

from __future__ import annotations


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
