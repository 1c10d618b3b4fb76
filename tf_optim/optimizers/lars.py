"""LARS."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import Unpack

from tf_optim import base, flavour, layerwise, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class LARS(layerwise.Layerwise, flavour.FusedOptimizer, base.Optimizer):
    r"""LARS: momentum whose steps are a share of the variable that they change.

    With g the gradient of variable p:

        d = g + weight_decay_rate * p
        r = (trust_coefficient * norm(p)
             / (norm(g) + weight_decay_rate * norm(p)))
        m = momentum * m + learning_rate * r * d
        p -= m                                      or, with nesterov:
        p -= momentum * m + learning_rate * r * d

    r is 1 where a norm is 0, and for variables that are left out of it. For training
    with large batches.

    Args:
        momentum: the decay of m, in [0, 1]. Default: 0.9.
        trust_coefficient: the length of a step without momentum, in norms of the
            variable and learning rates, >= 0. Default: 0.001.
        nesterov: whether to step from where m leads to. Default: False.
        weight_decay_rate: the rate of the decay that is part of the gradient, >= 0.
            Default: 0.0.
        exclude_from_layer_adaptation: regular expressions; r is 1 for variables in
            whose path one of them occurs. Default: None, for those of
            `exclude_from_weight_decay`.

    MLPerf's rules leave biases and normalization out of both:
    `exclude_from_weight_decay=["bias", "gamma", "beta"]`.

    Example:

    >>> opt = LARS(learning_rate=1.0)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(20.0), var)])  # of var^2
    >>> print(f"{var.numpy():.4f}")
    9.9900

    Differences from TensorFlow's model garden:
        - `eeta` is `trust_coefficient` and `skip_list` the two lists of patterns;
          there is no epsilon in the ratio, whose default was 0.
        - `weight_decay`, as with all optimizers here, is decoupled and beside the
          ratio: `weight_decay_rate` is the paper's.

    Reference:
        [You, Gitman and Ginsburg, 2017](https://arxiv.org/abs/1708.03888).
    """

    _spec = specs.Spec(
        "LARS",
        attributes={"momentum_rate": "momentum"},
        options=({}, {"nesterov": True}),
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: Number = 0.9,
        trust_coefficient: Number = 0.001,
        nesterov: bool = False,
        *,
        weight_decay_rate: Number = 0.0,
        exclude_from_layer_adaptation: Sequence[str] | None = None,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
