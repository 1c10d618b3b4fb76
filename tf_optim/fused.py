"""What our optimizers share in both Keras flavours: arguments, checks, configuration.

The step itself is `pipeline.take_step`.
"""

import tensorflow as tf

from tf_optim import checks, extension, methods, spellings


def is_half(dtype):
    """Whether slots of a variable of this dtype are kept in float32."""
    return tf.as_dtype(dtype).name in ("float16", "bfloat16")


class Fused(spellings.OldSpellings, methods.Methods):
    """Mixed into a stock optimizer class, beside the adapter to its Keras.

    Classes give `_spec`.
    """

    _spec = None

    def __init__(self, *args, use_locking=True, **kwargs):
        if not isinstance(use_locking, bool):
            raise ValueError(
                "`use_locking` must be True or False. Received: "
                f"use_locking={use_locking!r}"
            )
        extension.check(self)
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
        config = {
            **super().get_config(),
            "sparse_update": self.sparse_update,
            "use_locking": self.use_locking,
        }
        return {name: checks.plain(value) for name, value in config.items()}

    def _rate_of_step(self):
        """The learning rate of the step to come."""
        return self._decayed(self.learning_rate)

    def _per_step_hyper(self):
        """The values of the spec's `per_step`."""
        return ()

    def _after_step(self, per_step):
        """What a class keeps of `per_step` once the step is done."""
