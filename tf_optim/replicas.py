"""Keras 3 on several replicas: gradients meet once, and then each goes its way.

Stock meets again for each variable, which it cannot do inside `cond`: there it
accumulates gradients and overwrites variables with their averages, so that with
several replicas it can do neither.
"""

import tensorflow as tf

from tf_optim import clipping, fused


def _is_in_replica():
    return tf.distribute.get_replica_context() is not None


class Replicas:
    """Mixed into the Keras 3 adapter."""

    def _is_replicated(self):
        return self._distribution_strategy.num_replicas_in_sync > 1

    def _clips_each_replica(self):
        # Stock clips the gradients of each replica before it adds them up.
        # Gradients that are accumulated are added up first, and clipped when used.
        return self._is_replicated() and not self.gradient_accumulation_steps

    def _clip_gradients(self, grads):
        """The fused step clips, or each replica has."""
        return grads

    def _backend_apply_gradients(self, grads, trainable_variables):
        if self._is_replicated():
            # Here already, so that fewer rows are sent.
            grads = [clipping.sum_duplicates(gradient) for gradient in grads]
            if self._clips_each_replica():
                grads = super()._clip_gradients(grads)
            pairs = list(zip(grads, trainable_variables, strict=True))
            grads = [g for g, _ in self._all_reduce_sum_gradients(pairs)]
        super()._backend_apply_gradients(grads, trainable_variables)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        variables = [fused.raw(variable) for variable in trainable_variables]
        self._distributed_tf_update_step(
            self._distribution_strategy,
            list(zip(grads, variables, strict=True)),
            learning_rate,
        )

    def _backend_increment_gradient_accumulators(self, grads, acc_grads):
        if not self._is_replicated():
            super()._backend_increment_gradient_accumulators(grads, acc_grads)
            return
        for gradient, accumulator in zip(grads, acc_grads, strict=True):
            accumulator = fused.raw(accumulator)
            if isinstance(gradient, tf.IndexedSlices):
                tf.raw_ops.ResourceScatterAdd(
                    resource=accumulator.handle,
                    indices=gradient.indices,
                    updates=gradient.values,
                )
            else:
                accumulator.assign_add(gradient)

    def _overwrite_model_variables_with_average_value(self, trainable_variables):
        if not (self._is_replicated() and _is_in_replica()):
            super()._overwrite_model_variables_with_average_value(trainable_variables)
            return
        averages = self._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            if average is not None:
                fused.raw(variable).assign(fused.raw(average))
