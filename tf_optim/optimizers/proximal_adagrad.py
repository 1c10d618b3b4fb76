"""ProximalAdagrad."""

from __future__ import annotations

from typing_extensions import Unpack

from tf_optim import base, flavour, specs
from tf_optim.annotations import LearningRate, Number, SharedArguments


@flavour.register
class ProximalAdagrad(flavour.FusedOptimizer, base.Optimizer):
    r"""ProximalAdagrad: Adagrad that makes small numbers 0.

    With g the gradient of variable p:

        a += g^2
        r = learning_rate / sqrt(a)
        q = p - r * g
        p = sign(q) * max(abs(q) - r * l1, 0) / (1 + r * l2)

    with l1 and l2 the regularization strengths.

    Args:
        initial_accumulator_value: what a starts at, > 0. Default: 0.1.
        l1_regularization_strength: >= 0. Default: 0.0.
        l2_regularization_strength: >= 0. Default: 0.0.

    Example:

    >>> opt = ProximalAdagrad(learning_rate=0.1, l1_regularization_strength=1.0)
    >>> var = tf.Variable(10.0)
    >>> _ = opt.apply_gradients([(tf.constant(10.0), var)])  # of var^2 / 2
    >>> print(f"{var.numpy():.4f}")
    9.8901

    Differences from TensorFlow Addons:
        - None in the step: rows that a sparse gradient does not name stay as they are
          there too. Repeated indices are summed first.

    Reference:
        [Duchi, Hazan and Singer, 2011](https://jmlr.org/papers/v12/duchi11a.html);
        [Duchi and Singer, 2009](https://jmlr.org/papers/v10/duchi09a.html).
    """

    _spec = specs.Spec(
        "ProximalAdagrad",
        attributes={
            "l1": "l1_regularization_strength",
            "l2": "l2_regularization_strength",
        },
        checked=(specs.INITIAL,),
        initial={"accumulator": "initial_accumulator_value"},
        slot_dtypes=("float32", "bfloat16"),
        why_not_packed="their sum only grows, and 8 bits would not see what is added",
    )

    @flavour.handed_on
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: Number = 0.1,
        l1_regularization_strength: Number = 0.0,
        l2_regularization_strength: Number = 0.0,
        **kwargs: Unpack[SharedArguments],
    ) -> None: ...
