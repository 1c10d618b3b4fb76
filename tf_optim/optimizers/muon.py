"""Muon."""

from __future__ import annotations

import collections
import numbers
import re
from collections.abc import Sequence

import tensorflow as tf
from typing_extensions import Unpack

from tf_optim import (
    base,
    checks,
    flavour,
    keras_private,
    matching,
    specs,
    tensor_steps,
)
from tf_optim.annotations import ArgumentsButDecay, LearningRate, Number

_ADAM_DECAY = specs.Hyper("", "adam_weight_decay")
_RMS_RATE = specs.Hyper("", "rms_rate")


@flavour.register
class Muon(  # type: ignore[misc]
    flavour.FusedOptimizer,
    base.stock("Muon"),  # type: ignore[misc]
):
    r"""Muon: for matrices the orthogonal part of a momentum, Adam for the rest.

    With g the gradient of a matrix p, whose sizes are r and c:

        m = momentum * m + g
        d = g + momentum * m, or m without nesterov
        x = d / norm(d), and ns_steps times:
            a = x x^T;  x = muon_a * x + (muon_b * a + muon_c * a a) x
        p -= learning_rate * sqrt(max(r, c)) * rms_rate * x

    Variables that have not two dimensions, embeddings, and those that `exclude_layers`
    names are updated by `Adam`'s op, at `adam_lr_ratio` of the learning rate. The
    products of matrices are TensorFlow's; matrices of equal shapes are multiplied
    together.

    Args:
        adam_beta_1: Adam's decay of m, in [0, 1). Default: 0.9.
        adam_beta_2: Adam's decay of v, in [0, 1). Default: 0.999.
        adam_weight_decay: the `weight_decay` of what Adam updates. Default: 0.004.
        epsilon: of Adam, >= 0. Default: 1e-7.
        weight_decay: the rate of decoupled weight decay of the matrices, >= 0.
            Default: 0.004.
        exclude_layers: regular expressions; Adam updates the variables in whose path
            (Keras 3; else: name) one of them occurs. Default: None.
        exclude_embeddings: whether Adam updates variables with "embedding" in their
            path. Default: True.
        muon_a: of the iteration. Default: 3.4445.
        muon_b: of the iteration. Default: -4.775.
        muon_c: of the iteration. Default: 2.0315.
        adam_lr_ratio: what the learning rate is multiplied by for Adam, > 0.
            Default: 1.
        momentum: the decay of a matrix's m, in [0, 1]. Default: 0.95.
        ns_steps: how often the iteration is taken, >= 0. Default: 5.
        nesterov: whether d looks ahead. Default: True.
        rms_rate: the root mean square of a step, in learning rates; None for x itself.
            Default: 0.2.

    Example:

    >>> opt = Muon(learning_rate=0.1, weight_decay=None)
    >>> var = tf.Variable([[10.0, 0.0], [0.0, 10.0]])
    >>> _ = opt.apply_gradients([(tf.identity(var), var)])  # of |var|^2 / 2
    >>> print(f"{var.numpy()[0, 0]:.2f} {var.numpy()[0, 1]:.2f}")
    9.97 0.00

    Differences from Keras:
        - A sparse gradient of a matrix that Adam does not update is an error: its
          step depends on all rows. Those that Adam updates are as in `Adam`.
        - Slots of 16-bit variables are float32, and so is the iteration.
        - tf_keras has no Muon; ours works there too.

    Reference:
        [Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/);
        [Liu et al., 2025](https://arxiv.org/abs/2502.16982) for `rms_rate`.
    """

    _spec = specs.Spec(
        "Adam",
        slot_dtypes=("float32",),
        why_not_packed="its products of matrices read whole slots",
        attributes={
            "beta_1": "adam_beta_1",
            "beta_2": "adam_beta_2",
            "momentum": "momentums",
            "velocity": "adam_velocities",
        },
        checked=(
            specs.Hyper("", "momentum", high=1.0, closed=True),
            specs.Hyper("", "ns_steps"),
            *(specs.Hyper("", f"muon_{each}", low=-float("inf")) for each in "abc"),
        ),
        switches={"velocity_hat": "_amsgrad"},
        is_rule=False,
    )
    _amsgrad = False

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        adam_beta_1: Number = 0.9,
        adam_beta_2: Number = 0.999,
        adam_weight_decay: Number | None = 0.004,
        epsilon: Number = 1e-7,
        weight_decay: Number | None = 0.004,
        *,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.775,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: Number = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **kwargs: Unpack[ArgumentsButDecay],
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            adam_beta_1=adam_beta_1,
            adam_beta_2=adam_beta_2,
            adam_weight_decay=adam_weight_decay,
            epsilon=epsilon,
            weight_decay=weight_decay,
            exclude_layers=list(matching.checked("exclude_layers", exclude_layers)),
            exclude_embeddings=exclude_embeddings,
            muon_a=muon_a,
            muon_b=muon_b,
            muon_c=muon_c,
            adam_lr_ratio=adam_lr_ratio,
            momentum=momentum,
            ns_steps=ns_steps,
            nesterov=nesterov,
            rms_rate=rms_rate,
            **kwargs,
        )

    def _check_hyperparameters(self):
        super()._check_hyperparameters()
        if self.adam_weight_decay is not None:
            _ADAM_DECAY.check(self.adam_weight_decay)
        if self.rms_rate is not None:
            _RMS_RATE.check(self.rms_rate)
        if int(self.ns_steps) != self.ns_steps:
            raise ValueError(
                f"`ns_steps` must be an integer. Received: ns_steps={self.ns_steps!r}"
            )
        ratio = self.adam_lr_ratio  # who shares an op depends on it
        if not isinstance(ratio, numbers.Real) or not ratio > 0:
            raise ValueError(
                "`adam_lr_ratio` must be a number > 0. Received: "
                f"adam_lr_ratio={self.adam_lr_ratio!r}"
            )

    # --- who is updated by what: said when the slots are made

    def _should_use_adamw(self, variable):
        path = keras_private.path_of(variable)
        if len(variable.shape) != 2:
            return True
        if self.exclude_embeddings and "embedding" in path.lower():
            return True
        return any(re.search(pattern, path) for pattern in self.exclude_layers)

    def _make_slot(self, variable, slot):
        # In a Keras that has no Muon and makes no slots for it.
        if slot.name == "velocity" and not self._should_use_adamw(variable):
            return None
        return super()._make_slot(variable, slot)

    def _is_of_adam(self, variable):
        if not self._is_built():
            return self._should_use_adamw(variable)
        return keras_private.slots_of(self, variable)[1] is not None

    def _rate_factor_of(self, variable):
        factor = super()._rate_factor_of(variable)
        return factor * self.adam_lr_ratio if self._is_of_adam(variable) else factor

    def _is_decayed(self, variable):
        if keras_private.is_keras_3():  # stock's Muon asks by Keras' own variable
            number = keras_private.index_of(self, variable)
            variable = keras_private.built_with(self)[number]
        return super()._is_decayed(variable)

    def _decay_rate_of(self, variable):
        if not self._is_of_adam(variable):
            return self.weight_decay
        rate = self.adam_weight_decay
        return None if rate is None else rate / self.adam_lr_ratio

    # --- the step

    def _apply_updates(self, numbers, updates, scale):
        adam, matrices = [], collections.defaultdict(list)
        for place, update in enumerate(updates):
            if update.slots[1] is not None:
                adam.append(place)
                continue
            if update.is_sparse:
                raise ValueError(
                    "Muon must have a dense gradient for a matrix: its step depends on "
                    f"all rows. Received: tf.IndexedSlices for "
                    f"'{update.variable.name}'. Name it in `exclude_layers`."
                )
            matrices[tuple(update.variable.shape), update.variable.dtype].append(place)

        def part(places):
            factors = None if scale is None else tf.gather(scale, places)
            return [updates[i] for i in places], factors

        ops = super()._apply_updates(numbers, *part(adam)) if adam else []
        order, steps, momenta = [], [], []
        for places in matrices.values():
            made, moved = self._steps(numbers, *part(places))
            order += places
            steps += made
            momenta += moved
        if order:
            ops += tensor_steps.descend(numbers, [updates[i] for i in order], steps)
        return tensor_steps.assign_behind(ops, momenta)

    def _steps(self, numbers, updates, scale):
        """Steps along orthogonal matrices, and pairs of a momentum and its value."""
        momenta = [update.slots[0] for update in updates]
        grads = tf.stack(tensor_steps.dense_gradients(numbers, updates, scale))
        rate = checks.as_tensor(self.momentum, grads.dtype)
        new = rate * tf.stack([tf.convert_to_tensor(m) for m in momenta]) + grads
        ahead = grads + rate * new if self.nesterov else new
        steps = self._orthogonal(ahead)
        if self.rms_rate is not None:
            steps *= self.rms_rate * max(updates[0].variable.shape) ** 0.5
        return tf.unstack(steps), list(zip(momenta, tf.unstack(new), strict=True))

    def _orthogonal(self, x):
        """Matrices whose singular values are near 1, by Newton and Schulz."""
        tall = x.shape[-2] > x.shape[-1]
        if tall:
            x = tf.linalg.matrix_transpose(x)
        x /= tf.norm(x, axis=(-2, -1), keepdims=True) + 1e-7
        for _ in range(self.ns_steps):
            a = tf.matmul(x, x, transpose_b=True)
            b = self.muon_b * a + self.muon_c * tf.matmul(a, a)
            x = self.muon_a * x + tf.matmul(b, x)
        return tf.linalg.matrix_transpose(x) if tall else x
