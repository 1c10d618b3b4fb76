"""What our optimizers share in both Keras flavours."""

import tensorflow as tf

from tf_optim import apply, checks, clipping, methods, spellings

_HALF_TYPES = ("float16", "bfloat16")


def is_half(dtype):
    """Whether slots of a variable of this dtype are kept in float32."""
    return tf.as_dtype(dtype).name in _HALF_TYPES


def raw(variable):
    """The `tf.Variable` of a Keras variable."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _only(value):
    return (value,)


class Fused(spellings.OldSpellings, methods.Methods):
    """The step that both adapters take; mixed into a stock optimizer class.

    Adapters give `_variable_index(variable)`; classes give `_spec`.
    """

    _spec = None

    def __init__(self, *args, use_locking=True, **kwargs):
        if not isinstance(use_locking, bool):
            raise ValueError(
                "`use_locking` must be True or False. Received: "
                f"use_locking={use_locking!r}"
            )
        super().__init__(*args, **kwargs)
        self.use_locking = use_locking

    def _check_arguments(self, sparse_update):
        """Raises ValueError for a hyperparameter that no step could use."""
        self.sparse_update = sparse_update
        self._check_hyperparameters()

    def _check_hyperparameters(self):
        for hyper in (*self._spec.hyper, *self._spec.checked):
            hyper.check(getattr(self, hyper.attribute))
        checks.check_sparse_update(self.sparse_update)
        checks.check_keras_arguments(self)

    def get_config(self):
        """The stock class's configuration, `sparse_update` and `use_locking`."""
        return {
            **super().get_config(),
            "sparse_update": self.sparse_update,
            "use_locking": self.use_locking,
        }

    def _per_step_hyper(self):
        """The values of the spec's `per_step`."""
        return ()

    def _after_step(self, per_step):
        """What a class keeps of `per_step` once the step is done."""

    def _slots_of(self, variable):
        index = self._variable_index(variable)
        lists = (getattr(self, slot.attribute, ()) for slot in self._spec.slots)
        return tuple(raw(slots[index]) if slots else None for slots in lists)

    def _decay_of(self, variable):
        if not self.weight_decay or not self._use_weight_decay(variable):
            return 0.0
        return float(self.weight_decay)

    def _scales(self, gradients):
        """Factors for clipping by norm, and the bound for clipping by value."""
        if self.clipnorm and self.clipnorm > 0:
            return clipping.scales_for_clipnorm(gradients, self.clipnorm), float("inf")
        if self.global_clipnorm and self.global_clipnorm > 0:
            scales = clipping.scales_for_global_clipnorm(
                gradients, self.global_clipnorm
            )
            return scales, float("inf")
        clip_value = self.clipvalue if self.clipvalue and self.clipvalue > 0 else None
        return None, float(clip_value or "inf")

    def _updates(self, local, gradient, variable):
        """The variable's update on each of its devices; `local` takes it apart."""
        variables, gradients = local(variable), local(gradient)
        slots = [
            (None,) * len(variables) if slot is None else local(slot)
            for slot in self._slots_of(variable)
        ]
        decay = self._decay_of(variable)
        return [
            apply.Update(v, tuple(slot[i] for slot in slots), g, decay)
            for i, (v, g) in enumerate(zip(variables, gradients, strict=True))
        ]

    def _fused_step(self, distribution, grads_and_vars, learning_rate, clip=True):
        """Clips, decays and updates all variables.

        In cross-replica context on every device that they are on, in a replica's
        on its own. Returns the ops that do it; none in eager mode.
        """
        self._check_hyperparameters()  # they are attributes that can be set
        local = distribution.experimental_local_results
        if tf.distribute.get_replica_context() is not None:
            local = _only  # here a distributed variable is the replica's own
        per_variable = [self._updates(local, g, v) for g, v in grads_and_vars]
        per_step = self._per_step_hyper()
        hyper = tuple(getattr(self, h.attribute) for h in self._spec.hyper)
        step = apply.Step(
            learning_rate=self._decayed(learning_rate),
            iterations=tf.cast(tf.convert_to_tensor(self.iterations), tf.int64),
            hyper=hyper + per_step,
            flags=tuple(bool(getattr(self, flag)) for flag in self._spec.flags),
            sparse_update=self.sparse_update,
            use_locking=self.use_locking,
        )
        ops = []
        for updates in zip(*per_variable, strict=True):
            scales = None
            if clip:
                gradients = [update.gradient for update in updates]
                scales, step.clip_value = self._scales(gradients)
            ops += apply.apply_step(self._spec, step, updates, scales)
        with tf.control_dependencies(ops):  # a failed step leaves no trace
            self._after_step(per_step)
        return ops
