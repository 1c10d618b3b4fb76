"""The adapter to Keras 3."""

import tensorflow as tf

from tf_optim import fused, replicas, shards
from tf_optim.accumulation import Accumulation, DivisibleSlices


def built_with(optimizer):
    """The variables that any Keras 3 optimizer was built with; None before."""
    return list(optimizer._trainable_variables) if optimizer.built else None


class _Counter(tf.keras.Variable):
    """Counts the steps that have been done.

    Adds on its device, where Keras reads, adds and assigns: of two workers of a
    parameter server that do so at once one would be lost.
    """

    step = ()  # the ops that take the step which is counted next

    def assign_add(self, value):
        # A step inside of a cond reads the counter, which orders the two.
        graph = tf.compat.v1.get_default_graph()
        ops, self.step = [op for op in self.step if op.graph is graph], ()
        with tf.control_dependencies(ops):  # a failed step is not counted
            self.value.assign_add(tf.cast(value, self.value.dtype))


class FusedOptimizer(replicas.Replicas, shards.Shards, Accumulation, fused.Fused):
    """Puts one op call into the place of Keras 3's loop over variables."""

    _slot_dtype = None
    _slot_shape = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._iterations.__class__ = _Counter

    def _variable_index(self, variable):
        return self._get_variable_index(variable)

    def _is_built(self):
        return self.built

    def compute_gradients(self, loss, var_list, tape=None):
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
                    tape.watch([fused.raw(v) for v in var_list])
                loss = loss()
        var_list = list(var_list() if callable(var_list) else var_list)
        loss = tf.convert_to_tensor(loss)
        gradients = tape.gradient(
            loss,
            [fused.raw(v) for v in var_list],
            output_gradients=self.scale_loss(tf.ones_like(loss)),
        )
        return list(zip(gradients, var_list, strict=True))

    def add_variable_from_reference(self, reference_variable, name=None, **kwargs):
        """Adds a slot or an accumulator, in float32 for a 16-bit variable."""
        ours = [slot.name for slot in self._spec.slots] + ["gradient_accumulator"]
        if name in ours and fused.is_half(reference_variable.dtype):
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

    def _mark_built(self):
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
                DivisibleSlices(g.values, g.indices, g.dense_shape)
                if isinstance(g, tf.IndexedSlices)
                else g
                for g in grads
            ]
        return grads, vars

    def _apply_weight_decay(self, variables):
        """The fused step decays the variables."""

    def _distributed_tf_update_step(self, distribution, grads_and_vars, learning_rate):
        self._iterations.step = self._fused_step(
            distribution,
            grads_and_vars,
            learning_rate,
            clip=not self._clips_each_replica(),
        )
