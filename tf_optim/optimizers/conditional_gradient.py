"""ConditionalGradient."""

from __future__ import annotations

import dataclasses

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import base, checks, flavour, norms, specs, tensor_steps
from tf_optim.annotations import LearningRate, Number, SharedArguments

_NORMS = ("fro", "nuclear")


class _Stateless(specs.Spec):
    """Of an optimizer without slots, whose step depends on a norm."""

    needs_whole_table = True
    slots = hyper = flags = ()
    said_of_variables = (
        "Variables may be float16, bfloat16, float32 or float64. There are no slots. "
        "Gradients are read once for their norms, and all variables of one device and "
        "dtype are updated by one op."
    )


@flavour.register
class ConditionalGradient(flavour.FusedOptimizer, base.Optimizer):
    r"""Conditional gradient (Frank and Wolfe): variables stay in a ball of a norm.

    With g the gradient of variable p:

        s = g / (|g| + epsilon)
        p = learning_rate * p - (1 - learning_rate) * lambda_ * s

    where |g| is the root of the sum of squares (`ord="fro"`), so that p comes to lie in
    the ball of radius `lambda_` around 0. With `ord="nuclear"` s is u v^T, u and v the
    singular vectors of g's largest singular value sigma, times sigma / (sigma +
    epsilon), and the ball is of the nuclear norm. Of a variable with more than two axes
    the last two are matrices; of a vector both norms are the same.

    Args:
        learning_rate: how much of p remains, in [0, 1]: 1 for no step. A multiplier of
            `learning_rate_multipliers` below 1 so makes steps longer, but for 0, which
            freezes. Default: 0.1.
        lambda_: the radius of the ball, >= 0. Default: 0.01.
        epsilon: added to the norm, >= 0. Default: 1e-7.
        ord: "fro" or "nuclear"; the second is not for sparse gradients, and takes a
            singular value decomposition of each gradient. Default: "fro".

    Example:

    >>> opt = ConditionalGradient(learning_rate=0.5, lambda_=10.0)
    >>> var = tf.Variable([3.0, 4.0])
    >>> _ = opt.apply_gradients([(tf.identity(var), var)])  # of |var|^2 / 2
    >>> print(f"{var.numpy()[0]:.4f}")
    -1.5000

    Differences from TensorFlow Addons:
        - Repeated indices of a sparse gradient are summed before the norm.
        - `weight_decay` and the other arguments of Keras.

    Reference:
        [Frank and Wolfe, 1956](https://doi.org/10.1002/nav.3800030109);
        [Ravi et al., 2018](https://arxiv.org/abs/1803.06453) for neural networks.
    """

    _spec = _Stateless(
        "SGD",
        checked=(specs.Hyper("", "lambda_"), specs.Hyper("", "epsilon")),
        is_rule=False,
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.1,
        lambda_: Number = 0.01,
        epsilon: Number = 1e-7,
        ord: str = "fro",
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...

    def _check_hyperparameters(self):
        super()._check_hyperparameters()
        if self.ord not in _NORMS:
            raise ValueError(
                f"`ord` must be 'fro' or 'nuclear'. Received: ord={self.ord!r}"
            )

    def _apply_updates(self, numbers, updates, scale):
        updates, factors = self._directions(numbers, updates, scale)
        radius = checks.as_tensor(self.lambda_, tf.float64)
        step_rate = checks.as_tensor(numbers.learning_rate, tf.float64)
        rates = [step_rate * update.rate_factor for update in updates]
        factors *= radius * (1.0 - tf.stack(rates))

        def shortened(update, rate):
            # By a decay, which is first, and to the part that remains: in one.
            decay = checks.as_tensor(update.weight_decay, tf.float64)
            lost = 1.0 - rate * (1.0 - rate * decay)
            lost = tf.where(decay < 0.0, decay, lost)  # the op refuses it
            return dataclasses.replace(update, weight_decay=lost, rate_factor=1.0)

        numbers = dataclasses.replace(numbers, learning_rate=tf.ones([], tf.float64))
        for update, rate in zip(updates, map(checks.static_value, rates), strict=True):
            if rate is not None and not 0 <= rate <= 1:
                raise ValueError(
                    "`learning_rate`, times a variable's multiplier, must be in "
                    f"[0, 1]. Received: {rate} for '{update.variable.name}'."
                )
        updates = list(map(shortened, updates, rates))
        steps = [update.gradient for update in updates]
        return tensor_steps.descend(numbers, updates, steps, factors)

    def _directions(self, numbers, updates, scale):
        """Updates whose gradients times the factors, a vector, are s."""
        is_nuclear = self.ord == "nuclear"
        for update in updates:
            if is_nuclear and update.is_sparse:
                raise ValueError(
                    "`ord` must be 'fro' for a sparse gradient. Received: "
                    f"ord='nuclear' and tf.IndexedSlices for '{update.variable.name}'."
                )
        if numbers.clip_value or is_nuclear:
            updates = tensor_steps.seen_by_a_rule(numbers, updates, scale)
            scale = None
        epsilon = checks.as_tensor(self.epsilon, tf.float64)
        measured = zip(*((u.gradient, u.variable) for u in updates), strict=True)
        lengths = tf.sqrt(norms.Norms(*measured).squares)
        lengths = lengths if scale is None else lengths * scale
        factors = tf.math.divide_no_nan(tf.ones_like(lengths), lengths + epsilon)
        factors = factors if scale is None else factors * scale
        if is_nuclear:
            are_vectors = [update.gradient.shape.rank < 2 for update in updates]
            factors = tf.where(are_vectors, factors, tf.ones_like(factors))
            updates = [
                update
                if is_vector
                else dataclasses.replace(
                    update, gradient=_of_largest_value(update.gradient, epsilon)
                )
                for update, is_vector in zip(updates, are_vectors, strict=True)
            ]
        return updates, factors


def _of_largest_value(matrices, epsilon):
    """u v^T of the largest singular value, and 0 for a matrix of zeros."""
    values, left, right = tf.linalg.svd(matrices)
    largest = values[..., :1, None]
    share = tf.math.divide_no_nan(largest, largest + tf.cast(epsilon, largest.dtype))
    return share * tf.matmul(left[..., :1], right[..., :1], transpose_b=True)
