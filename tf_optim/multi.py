"""`MultiOptimizer`: several optimizers, each for its part of a model's variables."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tf_optim import (
    checks,
    fused,
    gradients,
    keras3,
    keras_private,
    methods,
    pipeline,
    replicas,
    shards,
)
from tf_optim.choices import ARGUMENT, Shares
from tf_optim.keras_private import raw


def _is_function(config):
    """Whether it is a function of a user's, as Keras saves one."""
    return isinstance(config, dict) and "class_name" in config


class _Multi(methods.Methods):
    """What both flavours of Keras share."""

    _shares: Any
    _optimizers: Any

    def _take(self, pairs):
        """Keeps the optimizers, which must be such as can share a step."""
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise ValueError(
                    f"`{ARGUMENT}` must be a list of pairs, each of an optimizer and "
                    f"its variables. Received: {pair!r} among them."
                )
        optimizers = [optimizer for optimizer, _ in pairs]
        for each in optimizers:
            if not isinstance(each, tf.keras.optimizers.Optimizer) or (
                isinstance(each, _Multi) or hasattr(each, "inner_optimizer")
            ):
                raise ValueError(
                    f"The optimizers in `{ARGUMENT}` must be `tf.keras` optimizers "
                    "that wrap no other: put a LossScaleOptimizer around the "
                    f"MultiOptimizer. Received: {each!r}"
                )
        if not optimizers or len(set(map(id, optimizers))) < len(optimizers):
            raise ValueError(
                f"`{ARGUMENT}` must have at least one optimizer, and each once: give "
                f"one a list of all its variables. Received: {optimizers}"
            )
        factors = {getattr(each, "loss_scale_factor", None) for each in optimizers}
        if len(factors) > 1:
            raise ValueError(
                "The optimizers must have the same `loss_scale_factor`, since the loss "
                f"is scaled once. Received: {factors}"
            )
        (self.loss_scale_factor,) = factors  # of Keras 3, for `scale_loss`
        self._optimizers = optimizers
        self._shares = Shares([which for _, which in pairs])

    @property
    def variables(self) -> list[Any]:
        """Its own count of steps, then the variables of each optimizer."""
        own = super().variables
        return type(own)(
            [*own, *(v for each in self._optimizers for v in each.variables)]
        )

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order of the pairs."""
        return list(self._optimizers)

    def optimizer_of(self, variable: Any) -> Any:
        """The one of `optimizers` that updates a variable.

        Args:
            variable: one that this was built with.
        """
        return self._optimizers[self._shares.owner_of(variable)]

    @property
    def learning_rate(self) -> Any:
        """Not there: each of `optimizers` has its own."""
        raise AttributeError(
            "A MultiOptimizer has no learning rate: each of its `optimizers` has one. "
            "Received: a read of `learning_rate`."
        )

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError(
            "A MultiOptimizer has no learning rate: set that of its `optimizers`. "
            f"Received: learning_rate={value!r}"
        )

    def _build_parts(self, variables):
        parts = self._shares.share_out(variables)
        for optimizer, part in zip(self._optimizers, parts, strict=True):
            if part:
                optimizer.build(part)
            else:
                warnings.warn(
                    f"No variable is taken by '{optimizer.name}' of '{self.name}'.",
                    stacklevel=3,
                )

    def _take_steps(self, pairs, take):
        """Calls `take(optimizer, pairs)` for each part, once all have been checked."""
        parts = self._shares.parts_of(gradients.given(pairs))
        parts = [
            (optimizer, part)
            for optimizer, part in zip(self._optimizers, parts, strict=True)
            if part
        ]
        for optimizer, part in parts:
            if isinstance(optimizer, fused.Fused):
                pipeline.check(optimizer, part)
        sparse = [(g, raw(v)) for g, v in pairs if isinstance(g, tf.IndexedSlices)]
        checked = []
        if sparse and len(parts) > 1:
            indices = [tf.cast(g.indices, tf.int64) for g, _ in sparse]
            checked.append(checks.check_indices([v for _, v in sparse], indices))
        with tf.control_dependencies([op for op in checked if op is not None]):
            for optimizer, part in parts:
                take(optimizer, part)
            # Once for all replicas: it may have been made outside of their scope.
            replicas.together(lambda *_: pipeline.count(self), [])

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Sets `variables`; nothing is changed where a value does not fit.

        Args:
            weights: as many arrays as there are `variables`, in their order and
                of their shapes.
        """
        super().set_weights(weights)
        for optimizer in self._optimizers:
            if isinstance(optimizer, fused.Fused):
                optimizer.forget_touched_rows()

    def finalize_variable_values(self, var_list: Iterable[Any]) -> None:
        """Gives variables the values of their averages, where an optimizer has some."""
        if not self._is_built():  # no step has been taken
            return
        parts = self._shares.parts_of([(None, variable) for variable in var_list])
        for optimizer, part in zip(self._optimizers, parts, strict=True):
            if part:
                optimizer.finalize_variable_values([variable for _, variable in part])

    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: Any = None
    ) -> None:
        """Excludes variables from the weight decay of each optimizer, before `build`.

        Args:
            var_list: variables. Default: None.
            var_names: regular expressions, of which one occurs in a name.
                Default: None.
        """
        for optimizer in self._optimizers:
            optimizer.exclude_from_weight_decay(var_list, var_names)

    def get_config(self) -> dict[str, Any]:
        """The optimizers' configurations, and which variables are whose.

        Raises:
            ValueError: where variables or layers were given, before `build`.
        """
        pairs = [
            [
                tf.keras.utils.serialize_keras_object(optimizer),
                choice.config(numbers, self._shares.count),
            ]
            for optimizer, choice, numbers in zip(
                self._optimizers,
                self._shares.choices,
                self._shares.numbers,
                strict=True,
            )
        ]
        return {"name": self.name, ARGUMENT: pairs}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """An optimizer of that configuration."""
        made = tf.keras.utils.deserialize_keras_object
        pairs = [
            (
                made(optimizer, custom_objects),
                made(which, custom_objects) if _is_function(which) else which,
            )
            for optimizer, which in config[ARGUMENT]
        ]
        return cls(**{**config, ARGUMENT: pairs})

    def save_own_variables(self, store: Any) -> None:
        """Stores what is not one of the optimizers', which are stored as such."""
        for i, variable in enumerate(self._variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Sets what `save_own_variables` has stored."""
        for i, variable in enumerate(self._variables):
            variable.assign(store[str(i)])


if TYPE_CHECKING or keras_private.is_keras_3():

    class _Adapter(shards.Joined, _Multi):
        """To Keras 3."""

        _for_base = {"learning_rate": 0.0}

        def build(self, variables: Iterable[Any]) -> None:
            """Makes the variables of the optimizers, where it has not been done.

            Args:
                variables: all that are to be updated.
            """
            if not self.built:
                variables = list(variables)
                self._build_parts(variables)
                with shards.restored_as_joined(self, variables):
                    super().build(variables)

        def _is_built(self):
            return self.built

        def _inner_optimizers(self):
            return self._optimizers

        @tf.autograph.experimental.do_not_convert
        def apply(
            self, grads: Iterable[Any], trainable_variables: Iterable[Any] | None = None
        ) -> None:
            """Updates variables by their gradients, once.

            Args:
                grads: for each variable a tensor, `tf.IndexedSlices` or None.
                trainable_variables: the variables. Default: those that the optimizer
                    was built with. The first call builds it.
            """
            grads = list(grads)
            if not grads:
                return
            variables = keras3.variables_for(self, grads, trainable_variables)
            with tf.name_scope(self.name):
                self._take_steps(
                    list(zip(grads, variables, strict=True)),
                    lambda optimizer, part: optimizer.apply(*zip(*part, strict=True)),
                )

        compute_gradients = keras3.FusedOptimizer.compute_gradients

else:

    class _Adapter(_Multi):
        """To tf_keras."""

        _for_base = {"jit_compile": False}

        def build(self, var_list: Iterable[Any]) -> None:
            """Makes the variables of the optimizers, where it has not been done.

            Args:
                var_list: all that are to be updated.
            """
            if not self._is_built():
                var_list = list(var_list)
                self._build_parts(var_list)
                super().build(var_list)
                self._built_with = self._no_dependency(var_list)
                self._built = True

        def _is_built(self):
            return getattr(self, "_built", False)

        @property
        def built(self) -> bool:
            """Whether the optimizers have their variables."""
            return self._is_built()

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
                grads_and_vars: pairs of a gradient (a tensor, `tf.IndexedSlices` or
                    None) and its variable. The first call builds the optimizer.
                name: of the name scope. Default: None, for the optimizer's.
                skip_gradients_aggregation: whether gradients are added up over
                    replicas already. Default: False.
                **kwargs: as the optimizers'.

            Returns:
                The variable that counts steps.
            """
            pairs = list(grads_and_vars)

            def take(optimizer, part):
                optimizer.apply_gradients(
                    part,
                    skip_gradients_aggregation=skip_gradients_aggregation,
                    **kwargs,
                )

            if pairs:
                with tf.init_scope():
                    self.build([variable for _, variable in pairs])
                with tf.name_scope(name or self.name):
                    self._take_steps(pairs, take)
            return self.iterations


@tf.keras.utils.register_keras_serializable(package="tf_optim")
class MultiOptimizer(_Adapter, tf.keras.optimizers.Optimizer):  # type: ignore[misc]
    """Several optimizers, each for its part of a model's variables, as one.

    Such as Ftrl for wide features and Adam for deep ones, or a row-wise optimizer for
    embeddings. A pair takes the variables that no pair before it takes. For one
    optimizer with several learning rates, `learning_rate_multipliers` needs
    fewer ops.

    Each optimizer takes its step as it would alone: `clipnorm`, `global_clipnorm`,
    weight decay, averages and accumulation are of its own variables. All
    gradients and indices are checked before the first of them begins.

    Args:
        optimizers_and_variables: a list of pairs `(optimizer, which)`. `which` is a
            regular expression, or a list of such, of which one must occur in a
            variable's path; a function of a variable that returns whether it
            is taken; variables or layers; places among the variables that are given
            to `build`; or None for all. A configuration has the places and paths of
            variables and layers: a model that is loaded is given its own.
        name: the optimizer's name. Default: "multi_optimizer".

    Raises:
        ValueError: for anything else, and at `build` for a variable that no
            pair takes.

    Example:

    >>> import tf_optim
    >>> wide, deep = tf.Variable(1.0), tf.Variable(1.0)
    >>> opt = tf_optim.MultiOptimizer(
    ...     [(tf_optim.SGD(0.5), [wide]), (tf_optim.SGD(0.25), None)]
    ... )
    >>> _ = opt.apply_gradients([(1.0, wide), (1.0, deep)])
    >>> print(wide.numpy(), deep.numpy())
    0.5 0.75
    """

    def __init__(
        self,
        optimizers_and_variables: Iterable[tuple[Any, Any]],
        name: str = "multi_optimizer",
    ) -> None:
        if not isinstance(optimizers_and_variables, Iterable):
            raise ValueError(
                f"`{ARGUMENT}` must be a list of pairs, each of an optimizer and its "
                f"variables. Received: {optimizers_and_variables!r}"
            )
        pairs = list(optimizers_and_variables)
        super().__init__(name=name, **self._for_base)
        self._take(pairs)
