"""Slots in bfloat16 or in 8 bits: which, and the variables that hold them.

To everybody but the ops a packed slot is a float32 variable of the variable's shape:
it is read, set, saved and restored as such, so checkpoints are those of float32 slots.
What lies in memory is cc/values/packed.h's.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.values import DistributedVariable

from tf_optim import keras_private, library, own_reads, pages, servers

DTYPES = ("float32", "bfloat16", "int8")
BLOCK = 128  # elements that share a scale, of one row
LEAST_SIZE = 4096  # smaller variables keep float32 slots where one name is for all
LEAST_WIDTH = 8  # elements of a row, below which scales outweigh codes


# Workers send each other the first values of variables, and cannot send these dtypes.
_STRATEGIES = tf.distribute.OneDeviceStrategy, tf.distribute.MirroredStrategy


# --- which dtype


def deserialized(slot_dtype):
    """The argument; what Keras has made of a function in a configuration is one."""
    if isinstance(slot_dtype, Mapping) and {"class_name", "config"} <= set(slot_dtype):
        return tf.keras.utils.deserialize_keras_object(slot_dtype)
    return slot_dtype


def check(slot_dtype, spec):
    """Raises ValueError for an argument that no optimizer of this kind can have."""
    if callable(slot_dtype):
        return
    if isinstance(slot_dtype, Mapping):
        for pattern in slot_dtype:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    "The keys of `slot_dtype` must be regular expressions. Received: "
                    f"{pattern!r} ({error})"
                ) from None
        names = list(slot_dtype.values())
    else:
        names = [slot_dtype]
    for name in names:
        _check_name(name, spec)


def _check_name(name, spec):
    if name not in DTYPES:
        raise ValueError(
            f"`slot_dtype` must be one of {', '.join(map(repr, DTYPES))}, a dict of "
            "regular expressions to these, or a callable that takes a variable. "
            f"Received: {name!r}"
        )
    if name not in spec.slot_dtypes:
        raise ValueError(
            f"The slots of {spec.name} must be {' or '.join(spec.slot_dtypes)}: "
            f"{spec.why_not_packed}. Received: slot_dtype={name!r}"
        )


def dtype_of_slots(slot_dtype, variable, spec):
    """What the slots of a variable are kept in.

    Args:
        slot_dtype: the optimizer's argument.
        variable: a Keras or `tf.Variable`.
        spec: the optimizer's.
    """
    name, is_chosen = slot_dtype, False
    if callable(slot_dtype):
        name, is_chosen = slot_dtype(variable), True
        _check_name(name, spec)
    elif isinstance(slot_dtype, Mapping):
        path = keras_private.path_of(variable)
        matches = (v for key, v in slot_dtype.items() if re.search(key, path))
        name = next(matches, "float32")
        is_chosen = name != "float32"
    if name == "float32":
        return name
    if tf.as_dtype(variable.dtype) == tf.float64:
        raise ValueError(
            f"Slots of float64 variables must be float64. Received: '{variable.name}' "
            f"under slot_dtype={slot_dtype!r}. Give it 'float32', which leaves them."
        )
    if name == "bfloat16":
        return name
    width = _width(variable.shape)
    if is_chosen and width < LEAST_WIDTH:
        raise ValueError(
            f"Slots in 8 bits must have rows of at least {LEAST_WIDTH} elements. "
            f"Received: '{variable.name}' of shape {tuple(variable.shape)}."
        )
    size = tf.TensorShape(variable.shape).num_elements()
    is_worth_it = width >= LEAST_WIDTH and size >= LEAST_SIZE
    return name if is_chosen or is_worth_it else "float32"


def _width(shape):
    shape = tuple(shape)
    return tf.TensorShape(shape[1:]).num_elements() if shape else 1


def bytes_of(name, shape):
    """What a slot of this shape takes in memory in a dtype."""
    size = tf.TensorShape(shape).num_elements()
    if name == "int8":
        rows = tuple(shape)[0] if tuple(shape) else 1
        width = _width(shape)
        return rows * (width + 4 * -(-width // BLOCK))
    return size * tf.as_dtype(name).size


# --- the variable


class _Packed(own_reads.OwnReads):
    """Mixed into the class of the variable in which a packed slot lies."""

    @property
    def dtype(self):
        return tf.float32

    @property
    def shape(self):
        return self._tf_optim_shape

    def _read_variable_op(self, no_copy=False):
        return self._tf_optim_codec.unpack(super()._read_variable_op(no_copy))

    def assign(self, value, use_locking=None, name=None, read_value=True):
        """Sets the slot, rounded to nearest."""
        del use_locking, name
        codec = self._tf_optim_codec
        if tf.is_tensor(value) and value.dtype == codec.storage[1]:
            packed = value  # a tf.function that has made the variable begins it so
        else:
            value = tf.convert_to_tensor(value, tf.float32)
            if not self.shape.is_compatible_with(value.shape):
                raise ValueError(
                    f"Cannot assign to '{self.name}': expected shape {self.shape}. "
                    f"Received: a value of shape {value.shape}."
                )
            packed = codec.pack(value)
        op = tf.raw_ops.AssignVariableOp(resource=self.handle, value=packed)
        if not read_value:
            return op
        if tf.executing_eagerly():
            return self
        with tf.control_dependencies([op]):
            return self.read_value()

    def assign_add(self, delta, use_locking=None, name=None, read_value=True):
        """Adds to the slot."""
        return self.assign(self.read_value() + delta, use_locking, name, read_value)

    def assign_sub(self, delta, use_locking=None, name=None, read_value=True):
        """Subtracts from the slot."""
        return self.assign(self.read_value() - delta, use_locking, name, read_value)

    def sparse_read(self, indices, name=None):
        """Rows of the slot."""
        return tf.gather(self.read_value(), indices, name=name)

    def gather_nd(self, indices, name=None):
        """Elements of the slot."""
        return tf.gather_nd(self.read_value(), indices, name=name)

    def _restore_from_tensors(self, restored_tensors):
        (value,) = restored_tensors.values()
        return self.assign(value, read_value=False)

    def __deepcopy__(self, memo):
        codec = self._tf_optim_codec
        copy = _variable(
            lambda: codec.pack(self.read_value()), codec, self.shape, self.name
        )
        memo[id(self)] = copy
        return copy


def _refused(name):
    def method(self, *args, **kwargs):
        raise NotImplementedError(
            f"`{name}` is not there for a packed slot: set it with `assign`. "
            f"Received: '{self.name}'."
        )

    return method


_SCATTERS = ("add", "div", "max", "min", "mul", "sub", "update")
for _kind in _SCATTERS:
    setattr(_Packed, f"scatter_{_kind}", _refused(f"scatter_{_kind}"))
    setattr(_Packed, f"scatter_nd_{_kind}", _refused(f"scatter_nd_{_kind}"))
_Packed.batch_scatter_update = _refused("batch_scatter_update")  # type: ignore[attr-defined]


class _BFloat16:
    def __init__(self, shape):
        self.storage = shape, tf.bfloat16

    def pack(self, value):
        return tf.cast(value, tf.bfloat16)

    def unpack(self, packed):
        return tf.cast(packed, tf.float32)


class _EightBits:
    def __init__(self, shape, is_signed):
        rows = tuple(shape)[0] if tuple(shape) else 1
        self.storage = (rows, bytes_of("int8", shape) // max(rows, 1)), tf.uint8
        self._shape, self._is_signed = shape, is_signed

    def pack(self, value):
        return library.ops().tf_optim_pack_slot(plain=value, is_signed=self._is_signed)

    def unpack(self, packed):
        return library.ops().tf_optim_unpack_slot(
            packed=packed, shape=self._shape, is_signed=self._is_signed
        )


@functools.cache
def _class_for(base):
    return type(base.__name__, (_Packed, base), {})


def _variable(packed, codec, shape, name, make=tf.Variable, **kwargs):
    """A variable that holds a packed slot; `packed()` is what it begins with."""
    variable = make(
        initial_value=packed,
        trainable=False,
        dtype=codec.storage[1],
        name=name and name.partition(":")[0],
        **kwargs,
    )
    for part in _parts_of(variable):
        part._tf_optim_codec, part._tf_optim_shape = codec, tf.TensorShape(shape)
        part.__class__ = _class_for(type(part))
    return variable


def _parts_of(variable):
    """The copies on several replicas, whose dtype and shape the variable takes on."""
    return variable.values if isinstance(variable, DistributedVariable) else [variable]


def is_packed(variable):
    """Whether a `tf.Variable` holds a packed slot."""
    return isinstance(_parts_of(variable)[0], _Packed)


def storage_of(variable):
    """The shape and dtype in which a slot lies in memory."""
    if is_packed(variable):
        shape, dtype = _parts_of(variable)[0]._tf_optim_codec.storage
        return tuple(shape), dtype
    return tuple(variable.shape), variable.dtype


def made_for(optimizer, variable, name, is_zero):
    """A scope in which a slot is made as the optimizer asks for.

    Args:
        optimizer: of ours.
        variable: whose slot.
        name: of the slot, in its op.
        is_zero: whether the slot starts at 0; then nothing of its size in float32 is
            made.
    """
    slots = {slot.name: slot for slot in optimizer._spec.slots if slot.per_element}
    if name not in slots or optimizer.slot_dtype == "float32":
        return contextlib.nullcontext()
    dtype = dtype_of_slots(optimizer.slot_dtype, variable, optimizer._spec)
    if dtype == "float32":
        return contextlib.nullcontext()
    _check_place(dtype, variable)
    return tf.variable_creator_scope(_creator(dtype, slots[name], variable, is_zero))


def _check_place(dtype, variable):
    """Raises where no such slot can be, inside of a strategy's scope or outside."""
    variable = keras_private.raw(variable)
    if tf.distribute.has_strategy():  # inside of `strategy.run` too
        strategy = tf.distribute.get_strategy()
    else:
        strategy = getattr(variable, "distribute_strategy", None)
    place = None
    if strategy is not None and not isinstance(strategy, _STRATEGIES):
        place = f"under {strategy}"
    elif servers.is_server(variable.device):
        place = f"for '{variable.name}' on {variable.device}"
    if place is not None:
        raise ValueError(
            "`slot_dtype` must be 'float32' under a tf.distribute strategy other than "
            f"MirroredStrategy and OneDeviceStrategy. Received: {dtype!r} {place}."
        )


def _creator(name, slot, variable, is_zero) -> Callable[..., Any]:
    device = keras_private.raw(variable).device
    codec = (
        _BFloat16(variable.shape)
        if name == "bfloat16"
        else _EightBits(variable.shape, not slot.positive)
    )

    def create(next_creator, **kwargs):
        value = kwargs["initial_value"]

        def packed():
            if is_zero:
                shape, dtype = codec.storage
                return pages.filled(shape, tf.zeros([], dtype), device)
            given = value() if callable(value) else value
            return codec.pack(tf.cast(given, tf.float32))

        return _variable(
            packed,
            codec,
            variable.shape,
            kwargs.get("name"),
            next_creator,
            aggregation=kwargs.get("aggregation"),
            synchronization=kwargs.get("synchronization"),
        )

    return create
