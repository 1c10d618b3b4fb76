"""The adapter to Keras 3: its public methods, and slots as ours are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
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
    shards,
)
from tf_optim.annotations import TensorLike
from tf_optim.keras_private import raw


def built_with(optimizer):
    """The variables that any Keras 3 optimizer was built with; None before."""
    return list(optimizer._trainable_variables) if optimizer.built else None


def variables_for(optimizer, grads, variables):
    """The variables of a step, a list: those given, or those that were built with."""
    if variables is not None:
        variables = list(variables)
        if not optimizer.built:
            with tf.keras.name_scope(optimizer.name, caller=optimizer):
                optimizer.build(variables)
    elif optimizer.built:
        variables = built_with(optimizer)
    else:
        raise ValueError(
            "Without `trainable_variables` the optimizer must have been built: "
            "call `build(trainable_variables)`. Received: one that is not built."
        )
    if len(variables) != len(grads):
        raise ValueError(
            f"`grads` must have one gradient for each of {len(variables)} "
            f"variables. Received: {len(grads)}."
        )
    return variables


def _value_of(variable, shape, dtype=None):
    """A variable as an initializer."""
    del shape
    return tf.cast(variable, dtype or variable.dtype)


class FusedOptimizer(shards.Joined, fused.Fused):
    """Takes a stock optimizer's step with one op call in place of a loop."""

    _slot_dtype = None
    _slot_shape = None
    _own_dtype = None

    @tf.autograph.experimental.do_not_convert
    def apply(
        self, grads: Iterable[Any], trainable_variables: Iterable[Any] | None = None
    ) -> None:
        """Updates variables by their gradients, once.

        Args:
            grads: for each variable a tensor, `tf.IndexedSlices` or None.
            trainable_variables: the variables. Default: those that the optimizer was
                built with. The first call builds it.

        Raises:
            ValueError: if a gradient or variable cannot be right, or none is given.
                Then nothing has changed.
        """
        grads = list(grads)
        if not grads:
            return
        variables = variables_for(self, grads, trainable_variables)
        with tf.name_scope(self.name):
            pairs = gradients.given(list(zip(grads, variables, strict=True)))
            pairs = keras_private.without_overwritten(self, pairs)
            if pairs:
                pipeline.take_step(self, pairs, self._reduce)
            else:
                keras_private.count(self).assign_add(1)

    @tf.autograph.experimental.do_not_convert
    def apply_if_finite(
        self, grads: Any, trainable_variables: Any, loss_scale: Any
    ) -> Any:
        """As `apply`, of gradients multiplied by a scale, if all are finite.

        Not with several replicas.

        Returns:
            Whether the step has been taken, a scalar bool; None, and nothing has been
            done, if there are variables that gradients overwrite.
        """
        grads = list(grads)
        variables = variables_for(self, grads, trainable_variables)
        if keras_private.overwrites(self, variables):
            return None
        with tf.name_scope(self.name):
            pairs = gradients.given(list(zip(grads, variables, strict=True)))
            return pipeline.take_step(self, pairs, None, loss_scale)

    def _reduce(self, pairs):
        grads, variables = zip(*pairs, strict=True)
        return list(zip(replicas.total(list(grads)), variables, strict=True))

    def _clips_each_replica(self):
        # Stock clips the gradients of each replica before it adds them up.
        # Gradients that are accumulated are added up first, and clipped when used.
        return not self.gradient_accumulation_steps

    @tf.autograph.experimental.do_not_convert
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable: no clipping, no weight decay, nothing is counted.

        A subclass may override this method; then `apply` calls it for each variable,
        with the clipped gradient and after weight decay, as in stock.

        Args:
            gradient: a tensor or `tf.IndexedSlices`.
            variable: the variable.
            learning_rate: of this step, a scalar.
        """
        pipeline.update_variable(self, gradient, variable, learning_rate)

    def _call_update_step(self, gradient, variable, learning_rate):
        self.update_step(gradient, variable, learning_rate)

    def finalize_variable_values(self, var_list: Iterable[Any]) -> None:
        """Gives the variables the values of their averages, if `use_ema`."""
        averages.overwrite(self, var_list)

    # --- building

    def build(self, variables: Iterable[Any]) -> None:
        """Makes the variables of the optimizer, where it has not been done.

        Args:
            variables: all that the optimizer is to update.
        """
        if self.built:
            return
        variables = list(variables)
        # A function that is being traced cannot make slots of all replicas.
        with tf.init_scope(), replicas.scope_of(map(raw, variables)):
            keras_private.adopt_strategy(self)
            with shards.restored_as_joined(self, variables):
                self._make_slots(variables)
                self._make_count_of_averages()
            replicas.give_all_the_same(map(raw, self._variables))

    def _make_slots(self, variables):
        super().build(variables)

    def _is_built(self):
        return self.built

    def _mark_built(self):
        """Keras 3's base class has said so."""

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, **kwargs: Any
    ) -> Any:
        """Adds a slot or an accumulator, in float32 for a 16-bit variable."""
        ours = [slot.name for slot in self._spec.slots] + ["gradient_accumulator"]
        if name in ours and fused.is_half(reference_variable.dtype):
            self._slot_dtype = "float32"
        device = getattr(raw(reference_variable), "device", None)
        initializer = pages.initializer(kwargs.get("initializer", "zeros"), device)
        is_zero = isinstance(initializer, pages.Filled) and initializer.is_zero
        kwargs["initializer"] = initializer
        try:
            with packed.made_for(self, reference_variable, name, is_zero):
                slot = super().add_variable_from_reference(
                    reference_variable, name=name, **kwargs
                )
        finally:
            self._slot_dtype = None
        self._slots_of_shards.add(reference_variable, name, slot)
        return slot

    def _add_slot(self, variable, slot, value):
        """A slot that starts at a value, for a class whose slots are ours to make.

        The value is a number, or a variable of the same shape.
        """
        if not slot.per_element:
            self._slot_shape = tuple(slot.shape_for(variable))
        self._own_dtype = slot.dtype
        initializer = (
            functools.partial(_value_of, value)
            if isinstance(value, tf.Variable)
            else tf.keras.initializers.Constant(value)
        )
        try:
            return self.add_variable_from_reference(
                variable, slot.name, initializer=initializer
            )
        finally:
            self._slot_shape = self._own_dtype = None

    def add_variable(
        self, shape: Any, initializer: Any = "zeros", dtype: Any = None, **kwargs: Any
    ) -> Any:
        """Adds a variable of the optimizer."""
        shape = shape if self._slot_shape is None else self._slot_shape
        return super().add_variable(
            shape, initializer, self._own_dtype or self._slot_dtype or dtype, **kwargs
        )

    # --- gradients

    def compute_gradients(
        self,
        loss: Callable[[], Any] | TensorLike,
        var_list: Iterable[Any] | Callable[[], Iterable[Any]],
        tape: tf.GradientTape | None = None,
    ) -> list[tuple[Any, Any]]:
        """Pairs of gradient and variable, as tf_keras' method of this name.

        Args:
            loss: as in `minimize`.
            var_list: as in `minimize`.
            tape: as in `minimize`.

        Returns:
            A list of `(gradient, variable)`; a gradient is None where the loss
            does not depend on the variable, and multiplied by
            `loss_scale_factor` where there is one, as `apply_gradients` expects.
        """
        if not callable(loss) and tape is None:
            raise ValueError(
                "`tape` must be the tf.GradientTape that recorded the loss, where "
                f"the loss is a tensor. Received: loss={loss}, tape={tape}"
            )
        tape = tf.GradientTape() if tape is None else tape
        if callable(loss):
            with tape:
                if not callable(var_list):
                    tape.watch([raw(v) for v in var_list])
                loss = loss()
        var_list = list(var_list() if callable(var_list) else var_list)
        loss = tf.convert_to_tensor(loss)
        grads = tape.gradient(
            loss,
            [raw(v) for v in var_list],
            output_gradients=self.scale_loss(tf.ones_like(loss)),
        )
        return list(zip(grads, var_list, strict=True))
