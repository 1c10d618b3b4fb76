"""`minimize`, `get_weights` and `set_weights`, alike in both Keras flavours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_optim.annotations import Mixin, TensorLike


class Methods(Mixin):
    """Mixed into a stock optimizer class, whose `compute_gradients` it uses.

    Adapters give `_is_built()`.
    """

    def minimize(
        self,
        loss: Callable[[], Any] | TensorLike,
        var_list: Iterable[Any] | Callable[[], Iterable[Any]],
        tape: tf.GradientTape | None = None,
    ) -> Any:
        """Computes the gradients of a loss and applies them.

        Args:
            loss: a callable without arguments that returns the loss, or, with
                `tape`, a tensor.
            var_list: a list of variables, or a callable without arguments that
                returns one once `loss` has been called.
            tape: the `tf.GradientTape` that recorded a loss that is a tensor.

        Returns:
            The number of steps done, this one included, with `.numpy()` in
            eager mode: what `apply_gradients` returns.

        Raises:
            ValueError: if the loss is a tensor and there is no tape.

        Example:

        >>> import tf_optim
        >>> opt = tf_optim.RMSprop(learning_rate=0.1)
        >>> var1 = tf.Variable(10.0)
        >>> int(opt.minimize(lambda: (var1 ** 2) / 2.0, [var1]).numpy())
        1
        >>> print(f"{var1.numpy():.6f}")
        9.683772
        """
        return self.apply_gradients(self.compute_gradients(loss, var_list, tape))

    def get_weights(self) -> list[np.ndarray]:
        """The values of `variables`, in their order, as NumPy arrays."""
        return [variable.numpy() for variable in self.variables]

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Sets `variables`; nothing is changed where a value does not fit.

        Args:
            weights: as many arrays as there are `variables`, in their order and
                of their shapes.

        Raises:
            ValueError: for a wrong number or shape, or before `build`.
        """
        if not self._is_built():
            raise ValueError(
                "`set_weights` needs the optimizer's variables: they must be made "
                "first, by `build(trainable_variables)` or a step. Received: an "
                "optimizer that is not built."
            )
        variables, weights = list(self.variables), list(weights)
        if len(weights) != len(variables):
            raise ValueError(
                f"`weights` must be a list of {len(variables)} arrays. Received: "
                f"{len(weights)}."
            )
        for i, (variable, weight) in enumerate(zip(variables, weights, strict=True)):
            if tuple(variable.shape) != np.shape(weight):
                raise ValueError(
                    f"`weights[{i}]` ('{variable.name}') must have shape "
                    f"{tuple(variable.shape)}. Received: {np.shape(weight)}."
                )
        values = [
            tf.cast(weight, variable.dtype)
            for variable, weight in zip(variables, weights, strict=True)
        ]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
