"""Adan."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class Adan(flavour.FusedOptimizer, base.Optimizer):
    r"""Adan: Nesterov's momentum from differences of gradients.

    With g the gradient of variable p, c its change since the step before (0 in the
    first), and t the number of the step, from 1:

        m += (1 - beta_1) * (g - m)
        d += (1 - beta_2) * (c - d)
        v += (1 - beta_3) * ((g + beta_2 * c)^2 - v)
        a = m / (1 - beta_1^t) + beta_2 * d / (1 - beta_2^t)
        p -= learning_rate * a / (sqrt(v / (1 - beta_3^t)) + epsilon)

    Args:
        beta_1: the decay of m, in [0, 1); 1 - beta_1 of the paper. Default: 0.98.
        beta_2: the decay of d, in [0, 1); 1 - beta_2 of the paper. Default: 0.92.
        beta_3: the decay of v, in [0, 1); 1 - beta_3 of the paper. Default: 0.99.
        epsilon: added to the root, >= 0. Default: 1e-8.

    Example:

    >>> opt = Adan(learning_rate=0.1)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.9000

    Differences from the authors' code:
        - Weight decay is that of all optimizers here, which is theirs with
          `no_prox=True`.
        - With `sparse_update="lazy"` the step before is the last one that named the
          row.

    Reference:
        [Xie et al., 2022](https://arxiv.org/abs/2208.06677), algorithm 1.
    """

    _spec = specs.Spec(
        "Adan",
        slot_dtypes=("float32", "bfloat16"),
        why_not_packed="it takes the difference of two gradients, one of them a slot",
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.98,
        beta_2: Number = 0.92,
        beta_3: Number = 0.99,
        epsilon: Number = 1e-8,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
