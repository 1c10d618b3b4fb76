"""`LossScaleOptimizer`: Keras' own, with one look at the gradients and no other pass.

Keras looks for infinities, and divides, in passes of their own, and makes a dense
tensor of a sparse gradient to look at it. Around one of ours the op that measures
gradients does the first, for clipping too, and the update the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tf_optim import extension, fused, gradients, keras_private, norms, replicas, shards


def _may_take_over(inner):
    """Whether the step of the inner optimizer can be ours, from the start."""
    return (
        isinstance(inner, fused.Fused)
        and not extension.overridden(inner, ("apply", "apply_gradients"))
        and not replicas.are_several()
    )


STOCK: Any
if TYPE_CHECKING or keras_private.is_keras_3():
    STOCK = tf.keras.optimizers.LossScaleOptimizer

    @tf.keras.utils.register_keras_serializable(package="tf_optim")
    class LossScaleOptimizer(shards.Joined, STOCK):
        """Keras 3's LossScaleOptimizer, at the cost of one read of the gradients.

        The loss is multiplied by a scale, so that gradients of float16 do not become
        zero, and gradients are divided by it. A step whose gradients are not finite
        changes nothing, and halves the scale; after `dynamic_growth_steps` steps in
        which all were finite it is doubled.

        `model.compile` wraps an optimizer in Keras' class under the policy
        "mixed_float16" unless it is wrapped already: pass this one.

        Args:
            inner_optimizer: any `tf.keras` optimizer.
            initial_scale: the first scale. Default: 2^15.
            dynamic_growth_steps: the steps after which it grows. Default: 2000.
            name: the optimizer's name. Default: as the stock class's.
            **kwargs: as the stock class's.

        Example:

        >>> import tf_optim
        >>> opt = tf_optim.LossScaleOptimizer(tf_optim.SGD(0.5), initial_scale=4.0)
        >>> var = tf.Variable(1.0)
        >>> with tf.GradientTape() as tape:
        ...     loss = opt.scale_loss(0.5 * var**2)
        >>> opt.apply([tape.gradient(loss, var)], [var])
        >>> print(var.numpy())
        0.5
        """

        built: Any

        def _inner_optimizers(self):
            return (self.inner_optimizer,)

        def build(self, var_list: Iterable[Any]) -> None:
            """Makes the variables of both optimizers, on all devices of `var_list`.

            Args:
                var_list: all that are to be updated.
            """
            var_list = list(var_list)
            # A function that is traced cannot make those of all replicas.
            raw = map(keras_private.raw, var_list)
            with tf.init_scope(), replicas.scope_of(raw):
                with shards.restored_as_joined(self, var_list):
                    super().build(var_list)
                own = [self.step_counter, self.dynamic_scale]
                replicas.give_all_the_same(map(keras_private.raw, own))

        @tf.autograph.experimental.do_not_convert
        def apply(
            self, grads: Iterable[Any], trainable_variables: Iterable[Any] | None = None
        ) -> None:
            """Updates variables by gradients that `scale_loss` has scaled.

            Args:
                grads: for each variable a tensor, `tf.IndexedSlices` or None.
                trainable_variables: the variables. Default: those that the optimizer
                    was built with.
            """
            inner, grads = self.inner_optimizer, list(grads)
            if not grads:
                return
            if trainable_variables is not None:
                # Of the same kind on all replicas, whichever of them builds.
                trainable_variables = list(trainable_variables)
            if not self.built and trainable_variables is not None:
                scope = tf.keras.name_scope(self.name, caller=self)
                with tf.init_scope(), scope:
                    self.build(trainable_variables)
                self.built = True
            if not (self.built and _may_take_over(inner)):
                super().apply(grads, trainable_variables)
                return
            scale = tf.convert_to_tensor(self.dynamic_scale)
            taken = inner.apply_if_finite(grads, trainable_variables, scale)
            if taken is None:  # variables that gradients overwrite
                super().apply(grads, trainable_variables)
                return
            counter = keras_private.raw(self.step_counter)
            grows = tf.equal(counter, self.dynamic_growth_steps - 1)
            goes_on = tf.logical_and(taken, tf.logical_not(grows))
            count = tf.where(goes_on, counter + 1, tf.zeros_like(counter))
            factor = tf.where(taken, tf.where(grows, 2.0, 1.0), 0.5)
            counter.assign(count)
            keras_private.raw(self.dynamic_scale).assign(scale * factor)

        def check_finite(self, grads: Iterable[Any]) -> Any:
            """Whether all elements of all gradients of all replicas are finite.

            Keras asks before gradients are added up, and believes its first replica.
            """
            found = [gradients.floating(g) for g in grads if g is not None]
            if not found:
                return tf.constant(True)
            finite = norms.Norms(found, [None] * len(found)).are_finite
            in_replica = tf.distribute.get_replica_context() is not None
            if not (replicas.are_several() and in_replica):
                return finite
            (failed,) = replicas.total([tf.where(finite, 0.0, 1.0)])
            return tf.equal(failed, 0.0)

else:
    # Keras' public name is a function in class's clothing: it makes one of these.
    STOCK = next(
        cls
        for cls in tf.keras.mixed_precision.LossScaleOptimizer.__subclasses__()
        if issubclass(cls, tf.keras.optimizers.Optimizer)
    )

    @tf.keras.utils.register_keras_serializable(package="tf_optim")
    class LossScaleOptimizer(STOCK):
        """tf_keras' LossScaleOptimizer, at the cost of one read of the gradients.

        The loss is multiplied by a scale, so that gradients of float16 do not become
        zero, and gradients are divided by it. A step whose gradients are not finite
        changes no variable, and halves the scale; after `dynamic_growth_steps` steps
        in which all were finite it is doubled.

        `model.compile` wraps an optimizer in Keras' class under the policy
        "mixed_float16" unless it is wrapped already: pass this one.

        Args:
            inner_optimizer: any `tf.keras` optimizer.
            dynamic: whether the scale changes. Default: True.
            initial_scale: the first scale, or the only one. Default: 2^15 if dynamic.
            dynamic_growth_steps: the steps after which it grows. Default: 2000 if
                dynamic.

        Example:

        >>> import tf_optim
        >>> opt = tf_optim.LossScaleOptimizer(tf_optim.SGD(0.5), initial_scale=4.0)
        >>> var = tf.Variable(1.0)
        >>> _ = opt.minimize(lambda: 0.5 * var**2, [var])
        >>> print(var.numpy())
        0.5
        """

        @tf.autograph.experimental.do_not_convert
        def minimize(self, loss: Any, var_list: Any, tape: Any = None) -> Any:
            """Computes the gradients of a loss, scaled, and applies them.

            Args:
                loss: a function without arguments that returns the loss, or, with
                    `tape`, a tensor.
                var_list: the variables.
                tape: the `tf.GradientTape` that recorded a loss that is a tensor.

            Returns:
                The variable that counts steps.
            """
            inner = self.inner_optimizer
            cls = type(self)
            if (
                cls.compute_gradients is not STOCK.compute_gradients
                or cls.apply_gradients is not LossScaleOptimizer.apply_gradients
                or not (self.dynamic and _may_take_over(inner))
            ):
                return super().minimize(loss, var_list, tape)
            tape = tf.GradientTape() if tape is None else tape
            with tape:
                loss = self.get_scaled_loss(loss)
            pairs = inner.compute_gradients(loss, var_list, tape=tape)
            # Not divided: the update does it.
            return self._apply(pairs, self.loss_scale)

        @tf.autograph.experimental.do_not_convert
        def apply_gradients(
            self,
            grads_and_vars: Iterable[Any],
            skip_gradients_aggregation: bool = False,
            **kwargs: Any,
        ) -> Any:
            """Updates variables by gradients that are divided by the scale already.

            Args:
                grads_and_vars: pairs of a gradient and its variable.
                skip_gradients_aggregation: whether gradients are added up over
                    replicas already. Default: False.
                **kwargs: `experimental_aggregate_gradients`, the old spelling of its
                    opposite.
            """
            pairs = list(grads_and_vars)
            inner = self.inner_optimizer
            if not (pairs and self.dynamic and _may_take_over(inner)):
                return super().apply_gradients(
                    pairs, skip_gradients_aggregation, **kwargs
                )
            kwargs.pop("experimental_aggregate_gradients", None)
            if kwargs:
                raise TypeError(
                    f"`apply_gradients` received unknown arguments: {list(kwargs)}."
                )
            return self._apply(pairs, 1.0)

        @classmethod
        def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
            """An optimizer of that configuration."""
            inner = config["inner_optimizer"]
            if isinstance(inner, dict):
                inner = keras_private.made_from(inner, custom_objects)
            config = {**config, "inner_optimizer": inner}
            return super().from_config(config, custom_objects)

        def _apply(self, pairs, scale):
            inner = self.inner_optimizer
            taken = inner.apply_if_finite(pairs, scale)
            keras_private.update_loss_scale(self, taken)
            inner.iterations.assign_add(tf.cast(tf.logical_not(taken), tf.int64))
            return inner.iterations
