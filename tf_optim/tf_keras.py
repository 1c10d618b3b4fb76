"""The adapter to tf_keras (`TF_USE_LEGACY_KERAS=1`)."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_optim import (
    averages,
    fused,
    gradients,
    keras_private,
    packed,
    pages,
    pipeline,
    replicas,
)

# As stock calls some slots -> as we do.
_SLOT_NAMES = {"m": "momentum", "v": "velocity", "vhat": "velocity_hat", "u": "norm"}


def _device_of(variable):
    return getattr(variable, "device", None)  # a table in parts has none


class _ReferenceIn:
    """A variable that asks for slots in a dtype, whatever its own is."""

    def __init__(self, dtype, variable):
        self._variable = variable
        self.true_dtype = dtype
        self.dtype = dtype  # what older tf_keras asks for

    @property  # a strategy makes slots beside variables of its own classes
    def __class__(self):
        return type(self._variable)

    def __getattr__(self, name):
        return getattr(self._variable, name)


class _StandIn:
    """What a stock optimizer, which keeps no model variables, knows of one."""

    def __init__(self, key, slot, name):
        self._unique_id = key
        self._slot = slot
        self._shared_name = name

    @property  # as of `_ReferenceIn`
    def __class__(self):
        return type(self._slot)

    def __getattr__(self, name):
        return getattr(self._slot, name)

    def __tf_tensor__(self, dtype=None, name=None):
        return tf.convert_to_tensor(self._slot, dtype, name=name)


def built_with(optimizer):
    """The variables that any tf_keras optimizer was built with; None before.

    Those of a stock optimizer come as stand-ins, good for `build` and no more.
    """
    if not getattr(optimizer, "_built", False):
        return None
    if hasattr(optimizer, "_built_with"):  # one of ours
        return list(optimizer._built_with)
    keys = sorted(optimizer._index_dict, key=optimizer._index_dict.get)
    lists = [
        value
        for name, value in vars(optimizer).items()
        if isinstance(value, list) and len(value) == len(keys) and name != "_variables"
    ]
    slots = max(
        (each for each in lists if all(isinstance(v, tf.Variable) for v in each)),
        key=lambda each: sum(v.shape.num_elements() for v in each),  # not of rows
        default=[None] * len(keys),  # no slots at all: nothing but the key is needed
    )
    return [
        _StandIn(key, slot, _name_of_model_variable(optimizer, slot))
        for key, slot in zip(keys, slots, strict=True)
    ]


def _name_of_model_variable(optimizer, slot):
    """As in "adam/m/dense/kernel", with or without the optimizer's name."""
    if slot is None:
        return None
    name = slot._shared_name.removeprefix(f"{optimizer.name}/")
    return name.partition("/")[2] or name


class FusedOptimizer(fused.Fused):
    """Takes a stock optimizer's step with one op call in place of a loop."""

    def __init__(
        self, *args: Any, jit_compile: bool = False, mesh: None = None, **kwargs: Any
    ) -> None:
        # Stock's own XLA wrap is per variable and would undo the list op.
        del jit_compile
        if mesh is not None:
            raise ValueError(
                "`mesh` must be None: a fused optimizer cannot update variables that "
                f"DTensor lays out over a mesh. Received: mesh={mesh}"
            )
        super().__init__(*args, jit_compile=False, **kwargs)

    @tf.autograph.experimental.do_not_convert
    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Updates variables by their gradients, once.

        Args:
            grads_and_vars: pairs of a gradient (a tensor, `tf.IndexedSlices` or None)
                and its variable. The first call builds the optimizer.
            name: of the name scope. Default: None, for the optimizer's.
            skip_gradients_aggregation: whether gradients are added up over replicas
                already. Default: False.
            **kwargs: `experimental_aggregate_gradients`, the old spelling of its
                opposite.

        Returns:
            The variable that counts steps.

        Raises:
            ValueError: if a gradient or variable cannot be right, or none is given.
                Then nothing has changed.
        """
        aggregate = kwargs.pop("experimental_aggregate_gradients", True)
        if kwargs:
            raise TypeError(f"`apply_gradients` received unknown arguments: {kwargs}.")
        pairs = list(grads_and_vars)
        if pairs:
            reduce = aggregate and not skip_gradients_aggregation
            with tf.name_scope(name or self.name or "optimizer"):
                self._take_step(pairs, self.aggregate_gradients if reduce else None)
        return self.iterations

    @tf.autograph.experimental.do_not_convert
    def apply_if_finite(self, grads_and_vars: Any, loss_scale: Any) -> Any:
        """As `apply_gradients`, of gradients multiplied by a scale, if all are finite.

        Not with several replicas.

        Returns:
            Whether the step has been taken, a scalar bool.
        """
        with tf.name_scope(self.name or "optimizer"):
            return self._take_step(list(grads_and_vars), None, loss_scale)

    def _take_step(self, pairs, reduce, loss_scale=None):
        self._compute_current_learning_rate()
        with tf.init_scope():
            self.build([variable for _, variable in pairs])
        return pipeline.take_step(self, gradients.given(pairs), reduce, loss_scale)

    def _clips_each_replica(self):
        return False  # stock clips what it has added up

    @tf.autograph.experimental.do_not_convert
    def update_step(self, gradient: Any, variable: Any) -> None:
        """Updates one variable: no clipping, no weight decay, nothing is counted.

        A subclass may override this method; then `apply_gradients` calls it for each
        variable, with the clipped gradient and after weight decay, as in stock.

        Args:
            gradient: a tensor or `tf.IndexedSlices`.
            variable: the variable.
        """
        rate = self._rate_of_step()
        pipeline.update_variable(self, gradient, variable, rate)

    def _call_update_step(self, gradient, variable, learning_rate):
        del learning_rate  # stock's method reads it
        self.update_step(gradient, variable)

    def finalize_variable_values(self, var_list: Iterable[Any]) -> None:
        """Gives the variables the values of their averages, if `use_ema`."""
        averages.overwrite(self, var_list)

    # --- building

    def build(self, var_list: Iterable[Any]) -> None:
        """Makes the variables of the optimizer, where it has not been done.

        Args:
            var_list: all that the optimizer is to update.
        """
        if self._is_built():
            return
        var_list = list(var_list)
        self._built_with = self._no_dependency(list(var_list))
        with tf.init_scope(), replicas.scope_of(var_list):  # not in each trace
            keras_private.adopt_strategy(self)
            self._make_slots(var_list)
            self._make_count_of_averages()

    def _make_slots(self, var_list):
        super().build(var_list)

    def _is_built(self):
        return getattr(self, "_built", False)

    @property
    def built(self) -> bool:
        """Whether the slots exist."""
        return self._is_built()

    def _mark_built(self):
        self._built = True

    def add_variable_from_reference(
        self, model_variable: Any, variable_name: str, **kwargs: Any
    ) -> Any:
        """Adds a slot, in float32 for a 16-bit variable."""
        initial = kwargs.get("initial_value")
        dtype = getattr(model_variable, "true_dtype", model_variable.dtype)
        if fused.is_half(dtype) and variable_name != "average":
            dtype = tf.float32
            model_variable = _ReferenceIn(dtype, model_variable)
            if initial is not None and not isinstance(initial, pages.Filled):
                kwargs["initial_value"] = tf.cast(initial, dtype)
        shape = model_variable.shape if kwargs.get("shape") is None else kwargs["shape"]
        if initial is None and tf.TensorShape(shape).is_fully_defined():
            initial = pages.with_number(0, _device_of(model_variable))
        is_zero = initial is None
        if isinstance(initial, pages.Filled):
            is_zero = initial.is_zero
            # A function, since a packed slot that begins with zeros needs no other.
            kwargs["initial_value"] = functools.partial(initial, shape, dtype)
            if self._mesh:
                kwargs["initial_value"] = kwargs["initial_value"]()
        name = _SLOT_NAMES.get(variable_name, variable_name)
        with packed.made_for(self, model_variable, name, is_zero):
            return super().add_variable_from_reference(
                model_variable, variable_name, **kwargs
            )

    def _add_slot(self, variable, slot, value):
        """A slot that starts at a value, for a class whose slots are ours to make.

        The value is a number, or a variable of the same shape.
        """
        shape = slot.shape_for(variable)
        if slot.dtype is not None:
            variable = _ReferenceIn(tf.as_dtype(slot.dtype), variable)
        if isinstance(value, tf.Variable):
            is_half = fused.is_half(variable.dtype)
            initial = tf.cast(value, tf.float32 if is_half else variable.dtype)
        else:
            initial = pages.with_number(value, _device_of(variable))
        return self.add_variable_from_reference(
            variable, slot.name, shape=shape, initial_value=initial
        )
