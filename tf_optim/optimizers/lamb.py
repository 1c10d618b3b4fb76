"""Lamb."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import Unpack

from tf_optim import base, flavour, layerwise, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Lamb(  # type: ignore[misc]
    layerwise.Layerwise,
    flavour.FusedOptimizer,
    base.stock("Lamb"),  # type: ignore[misc]
):
    r"""Lamb: Adam's step, as long as the variable that it changes.

    With g the gradient of variable p and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        v += (1 - beta_2) * (g^2 - v)
        r = m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)
        r += weight_decay_rate * p
        p -= learning_rate * norm(p) / norm(r) * r

    The ratio of norms is 1 where a norm is 0, and for variables that are left out of
    it.

    Args:
        beta_1: the decay of m, in [0, 1). Default: 0.9.
        beta_2: the decay of v, in [0, 1). Default: 0.999.
        epsilon: added to the root, >= 0. Default: 1e-7.
        weight_decay_rate: the rate of the decay that is part of r, >= 0; the paper's
            and TensorFlow Addons'. `weight_decay` is beside r, as in Keras.
            Default: 0.0.
        exclude_from_layer_adaptation: regular expressions; the ratio is 1 for
            variables in whose path one of them occurs. Default: None, for those of
            `exclude_from_weight_decay`.

    Example:

    >>> opt = Lamb(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.0000

    Differences from Keras:
        - Repeated indices of a sparse gradient are summed before anything else; stock
          squares them one by one.
        - Rows that a sparse gradient does not name stay as they are
          (`sparse_update="lazy"`); stock decays their slots, moves them, and has them
          in the norms.
        - Slots of 16-bit variables are float32, so `beta_2` near 1 works.
        - `1 - beta^t` and the norms are computed in float64.
        - tf_keras has no Lamb; ours works there too.

    Reference:
        [You et al., 2020](https://arxiv.org/abs/1904.00962).
    """

    _spec = specs.Spec("Lamb")

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        *,
        weight_decay_rate: Number = 0.0,
        exclude_from_layer_adaptation: Sequence[str] | None = None,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
