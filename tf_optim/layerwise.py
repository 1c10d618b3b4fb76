"""What optimizers share whose step is as long as the variable that it changes."""

from __future__ import annotations

from typing import Any

from tf_optim import annotations as hints
from tf_optim import matching


class Layerwise(hints.Mixin):
    """Mixed in before `FusedOptimizer`: which variables decay, and which adapt.

    The rule has the hyperparameters `weight_decay_rate` and `layer_adaptation`.
    """

    layer_adaptation = 1.0

    def __init__(
        self,
        *,
        weight_decay_rate: hints.Number,
        exclude_from_layer_adaptation: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.weight_decay_rate = weight_decay_rate
        self._is_given = exclude_from_layer_adaptation is not None
        self._not_adapted = matching.checked(
            "exclude_from_layer_adaptation", exclude_from_layer_adaptation
        )
        if not self._is_given:  # as in TensorFlow Addons
            self._not_adapted = self._not_decayed

    def _hyper_of(self, variable):
        own = {}
        if not self._is_decayed(variable):
            own["weight_decay_rate"] = 0.0
        if matching.is_named(self, variable, self._not_adapted):
            own["layer_adaptation"] = 0.0
        return tuple(own.items())

    def get_config(self) -> dict[str, Any]:
        """The configuration, with what was given of these arguments."""
        config = super().get_config()
        if self.weight_decay_rate:
            config["weight_decay_rate"] = self.weight_decay_rate
        if self._is_given:
            config["exclude_from_layer_adaptation"] = list(self._not_adapted)
        return config
