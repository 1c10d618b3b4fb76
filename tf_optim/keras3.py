"""The adapter to Keras 3."""

import tensorflow as tf

from tf_optim import clipping, fused


class _DivisibleSlices(tf.IndexedSlices):
    """IndexedSlices that stock's `gradient / loss_scale_factor` can divide."""

    def __truediv__(self, divisor):
        return tf.IndexedSlices(self.values / divisor, self.indices, self.dense_shape)


class FusedOptimizer(fused.Fused):
    """Puts one op call into the place of Keras 3's loop over variables."""

    _slot_dtype = None
    _slot_shape = None

    def _variable_index(self, variable):
        return self._get_variable_index(variable)

    def add_variable_from_reference(self, reference_variable, name=None, **kwargs):
        """Adds a slot, in float32 for a 16-bit variable."""
        slots = [slot.name for slot in self._spec.slots]
        if name in slots and fused.is_half(reference_variable.dtype):
            self._slot_dtype = "float32"
        try:
            return super().add_variable_from_reference(
                reference_variable, name=name, **kwargs
            )
        finally:
            self._slot_dtype = None

    def _add_row_slot(self, variable, name, value):
        """A slot of one number per row of the variable."""
        self._slot_shape = variable.shape[:1]
        try:
            return self.add_variable_from_reference(
                variable, name, initializer=tf.keras.initializers.Constant(value)
            )
        finally:
            self._slot_shape = None

    def _add_scalar(self, value, name):
        """A float32 variable of the optimizer."""
        return self.add_variable(
            (), tf.keras.initializers.Constant(value), "float32", name=name
        )

    def _is_built(self):
        """Keras 3's base class has said so."""

    def add_variable(self, shape, initializer="zeros", dtype=None, **kwargs):
        """Adds a variable of the optimizer."""
        shape = shape if self._slot_shape is None else self._slot_shape
        return super().add_variable(
            shape, initializer, self._slot_dtype or dtype, **kwargs
        )

    def _overwrite_variables_directly_with_gradients(self, grads, vars):
        grads, vars = super()._overwrite_variables_directly_with_gradients(grads, vars)
        if self.loss_scale_factor is not None:
            grads = [
                _DivisibleSlices(g.values, g.indices, g.dense_shape)
                if isinstance(g, tf.IndexedSlices)
                else g
                for g in grads
            ]
        return grads, vars

    def _clips_each_replica(self):
        # Stock clips the gradients of each replica before it adds them up.
        return self._distribution_strategy.num_replicas_in_sync > 1

    def _clip_gradients(self, grads):
        if not self._clips_each_replica():
            return grads
        return super()._clip_gradients(
            [
                clipping.sum_duplicates(g) if isinstance(g, tf.IndexedSlices) else g
                for g in grads
            ]
        )

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # With one replica stock puts an identity op around every gradient.
        if self._distribution_strategy.num_replicas_in_sync == 1:
            return grads_and_vars
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def _apply_weight_decay(self, variables):
        """The fused step decays the variables."""

    def _distributed_tf_update_step(self, distribution, grads_and_vars, learning_rate):
        ops = self._fused_step(
            distribution,
            grads_and_vars,
            learning_rate,
            clip=not self._clips_each_replica(),
        )
        if ops and not self._clips_each_replica():
            # Stock adds 1 next. Writes of one variable keep their order, so this
            # one lets a failed step go uncounted.
            with tf.control_dependencies(ops):
                self._iterations.value.assign_add(0)
