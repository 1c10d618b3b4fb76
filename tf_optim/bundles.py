"""All variables of an op call behind one handle.

Each variable that a `tf.function` uses is a tensor that every call of it hands over,
and with their slots an optimizer's are three times as many as the model's. A bundle
(cc/kernels/variable_bundle.h) holds them all: the step's op has that one handle for an
input. What the handles used to tell TensorFlow is told here in other ways: which
variables an op writes, so that reads come before or after it as the program says
(`_touched_by`), and which variables a SavedModel's function needs (`_Bundle`).

Under XLA, on GPUs and on parameter servers the ops have a handle for each variable:
XLA knows what it compiles of the variables that are a function's inputs. So a
`tf.function` is traced once more where it is called inside of jit_compile=True.
"""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import auto_control_deps
from tensorflow.python.ops import control_flow_ops
from tensorflow.python.saved_model import registration, save_context

from tf_optim import checks, keras_private, library, servers

# An optimizer whose variables come in ever new combinations keeps this many.
MOST = 64


class _Bundle(tf.__internal__.tracking.Trackable):
    """A bundle of variables that live at least as long.

    In a SavedModel it is an object that refers to its variables, no op of ours among
    it: where nothing but `serve` is called no one needs to know it.
    """

    def __init__(self, variables):
        self._variables = list(variables)
        self._saved = {}
        with tf.init_scope(), tf.device(variables[0].handle.device):
            self._handle = library.ops().tf_optim_variable_bundle()
            _fill(self._handle, variables)

    @property
    def handle(self):
        """The resource."""
        return self._handle

    def to_be_saved(self, owner_of):
        """Makes its variables known to a SavedModel.

        Args:
            owner_of: gives the Keras variable of a `tf.Variable`, or that itself.
        """
        self._saved = {str(i): owner_of(v) for i, v in enumerate(self._variables)}
        return self

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        del kwargs
        return dict(self._saved) if save_type == "savedmodel" else {}

    def _export_to_saved_model_graph(self, object_map, tensor_map, **kwargs):
        del object_map, kwargs
        # For the graph's sake: who loads it puts a bundle in the place.
        tensor_map[self._handle] = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])
        return [self._handle]


@registration.register_serializable(
    "tf_optim",
    "variable_bundle",
    predicate=lambda each: isinstance(each, (_Bundle, _Loaded)),
)
class _Loaded(tf.saved_model.experimental.TrackableResource):
    """The bundle of a SavedModel, which may be saved again.

    What TensorFlow would make of the saved functions below where this class is not
    known has, like a `_Bundle`, no op of ours.
    """

    def __init__(self):
        super().__init__()
        self._found = {}

    def _add_trackable_child(self, name, value):
        if name.isdigit():  # others are functions that this class has anyhow
            self._found[name] = value

    @classmethod
    def _deserialize_from_proto(cls, **kwargs):
        del kwargs
        return cls()

    def _create_resource(self):
        if save_context.in_save_context():
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])
        return library.ops().tf_optim_variable_bundle()

    def _initialize(self):
        variables = [self._found[str(i)] for i in range(len(self._found))]
        if (
            variables
            and not save_context.in_save_context()
            and self._can_hold(variables)
        ):
            return _fill(self.resource_handle, variables)
        return tf.no_op()

    def _can_hold(self, variables):
        """Not those of replicas, or of another device: such a model serves alone."""
        if any(isinstance(each, tf.distribute.DistributedValues) for each in variables):
            return False
        devices = {each.handle.device for each in variables}
        return not tf.executing_eagerly() or devices == {self.resource_handle.device}

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        return {**children, **self._found}


def _fill(handle, variables):
    op = library.ops().tf_optim_fill_variable_bundle(
        bundle=handle, variables=[variable.handle for variable in variables]
    )
    if isinstance(handle, tf.__internal__.EagerTensor):
        _known[id(handle)] = [variable.handle for variable in variables]
        weakref.finalize(handle, _known.pop, id(handle), None)
    return op


class Bundles:
    """An optimizer's bundles, which its own checkpoints do not see."""

    def __init__(self):
        self._by_handles = {}

    def of(self, variables):
        """The handle of the variables' bundle; None where each has to be given.

        Not to be asked for under XLA.
        """
        handles = [variable.handle for variable in variables]
        if _are_arguments(handles):
            return None
        key = tuple(map(id, handles))
        if key not in self._by_handles:
            if len(self._by_handles) == MOST or not _can_be_bundled(handles):
                return None
            self._by_handles[key] = _Bundle(variables)
        return self._by_handles[key].handle

    def children(self, variables):
        """By name: a saved function needs all that it uses.

        Args:
            variables: all of the optimizer's and its model's, as Keras has them. Each
                is another object in a SavedModel than its `tf.Variable`; but a split
                one, whose parts are variables of their own.
        """
        whole = [v for v in variables if not keras_private.is_split(v)]
        owners = {id(keras_private.raw(variable)): variable for variable in whole}
        return {
            f"variable_bundle_{i}": bundle.to_be_saved(lambda v: owners.get(id(v), v))
            for i, bundle in enumerate(self._by_handles.values())
        }


def _can_be_bundled(handles):
    devices = {handle.device for handle in handles}
    return (
        tf.compat.v1.executing_eagerly_outside_functions()
        and all(isinstance(h, tf.__internal__.EagerTensor) for h in handles)
        and len(devices) == 1
        and "CPU" in (device := devices.pop())
        and not servers.is_server(device)
    )


# --- what an op that is given a bundle reads and writes

# id of a bundle's handle, while it lives -> the handles of its variables
_known: dict[int, list[Any]] = {}


_ATTRIBUTE = "_tf_optim_captures"  # of a graph


class _Captures:
    """The eager tensors that a graph has captured, in itself or by way of others."""

    def __init__(self, pairs, ends):
        self.ends = ends
        self.outside = {}  # id of the tensor in the graph -> the eager one
        self.inside = {}  # and back
        self.around = {}  # id of the tensor in the graph -> that of the graph around
        for outside, inside in pairs:
            if inside.dtype != tf.resource:
                continue
            self.around[id(inside)] = outside
            if not isinstance(outside, tf.__internal__.EagerTensor):
                captures = self.of(outside.graph)
                outside = captures and captures.outside.get(id(outside))
            if outside is not None:
                self.outside[id(inside)] = outside
                self.inside[id(outside)] = inside

    @classmethod
    def of(cls, graph):
        pairs = getattr(graph, "captures", None)
        if pairs is None:
            return None
        found = getattr(graph, _ATTRIBUTE, None)
        # Arguments leave at the front, and what is captured later is behind: as many
        # may be other ones.
        ends = [len(pairs), *(id(pairs[i][1]) for i in (0, -1) if pairs)]
        if found is None or found.ends != ends:
            found = cls(pairs, ends)
            # What a table of graphs had would keep them: it refers to them.
            setattr(graph, _ATTRIBUTE, found)
        return found


def _is_argument(tensor):
    """Whether a resource is an argument of the function that is traced.

    Or of one around it. The function may be called again with another variable, and
    that is not traced anew.
    """
    captures = _Captures.of(tensor.graph)
    around = captures and captures.around.get(id(tensor))
    if around is not None and not isinstance(around, tf.__internal__.EagerTensor):
        return _is_argument(around)
    try:
        name = tensor.op.get_attr("_user_specified_name").decode()
    except ValueError:
        return False
    # What an op captures is called OP/INPUT, and what a function does by a number.
    is_input = "/" in tensor.op.name and "/" not in name
    return not (is_input or name.isdigit())


def _are_arguments(handles):
    """Whether one of some variables is an argument where an op is traced."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    captures = _Captures.of(graph)
    while captures is not None:
        found = (captures.inside.get(id(handle)) for handle in handles)
        if any(_is_argument(each) for each in found if each is not None):
            return True
        graph = graph.outer_graph
        captures = _Captures.of(graph)
    return False


def _touched_by(op, resource_reads, resource_writes):
    """Adds the variables of a bundle to what an op, or a function, writes.

    Those that stand in other bundles too, and all arguments: whatever these may be in
    another call.
    """
    if not _known or not (resource_reads or resource_writes):
        return False
    captures = _Captures.of(op.graph)
    if captures is None:
        return False
    given = [*resource_reads, *resource_writes]
    held = [_known.get(id(captures.outside.get(id(each))), ()) for each in given]
    handles = {id(handle) for each in held for handle in each}
    if not handles:
        return False
    if checks.is_compiled_by_xla(op.graph):
        raise RuntimeError(
            "An optimizer's step must be traced inside of jit_compile=True to be "
            "compiled. Received: a concrete function that was traced outside of "
            "it. Call the tf.function that it is of."
        )
    touched = [captures.inside[each] for each in handles & captures.inside.keys()]
    for each in captures.outside.values():
        if not handles.isdisjoint(map(id, _known.get(id(each), ()))):
            touched.append(captures.inside[id(each)])
    resources = [each for each in op.graph.inputs if each.dtype == tf.resource]
    resources += captures.inside.values()
    touched += [each for each in resources if _is_argument(each)]
    found = [each for each in touched if each not in resource_writes]
    resource_writes.update(found)
    return bool(found)


_touched_by.__name__ = "tf_optim_variable_bundles"  # in a registry of all packages
auto_control_deps.register_acd_resource_resolver(_touched_by)

# What TensorFlow asks of the XLA around a call; jit_compile=True is of this class.
control_flow_ops.XLAControlFlowContext.RequiresUniqueFunctionRetracing = (
    lambda context: bool(_known)
)
