"""What our optimizers share in both Keras flavours: arguments, checks, configuration.

The step itself is `pipeline.take_step`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_optim import (
    average_rows,
    bundles,
    checks,
    exact,
    extension,
    kept,
    keras_private,
    late_starts,
    matching,
    members,
    op_calls,
    packed,
    spellings,
    state,
    statistics,
)
from tf_optim import averaging as averagings
from tf_optim.annotations import Averaging, SlotDtype, SparseUpdate

_PLAIN = frozenset([int, float, str, bool, type(None)])


def is_half(dtype):
    """Whether slots of a variable of this dtype are kept in float32."""
    return tf.as_dtype(dtype).name in ("float16", "bfloat16")


class Fused(spellings.OldSpellings, state.State):
    """Mixed into a stock optimizer class, beside the adapter to its Keras.

    Classes give `_spec`.
    """

    _spec: Any = None
    _own_arguments: tuple[str, ...] = ()
    averaging: Averaging | None = None
    _averages_taken: Any = None

    def __init__(
        self,
        *args: Any,
        sparse_update: SparseUpdate = "lazy",
        exclude_from_weight_decay: Sequence[str] | None = None,
        learning_rate_multipliers: Mapping[str, float] | None = None,
        use_locking: bool = True,
        slot_dtype: SlotDtype = "float32",
        stochastic_rounding: bool | None = None,
        cautious: bool = False,
        averaging: Averaging | None = None,
        **kwargs: Any,
    ) -> None:
        slot_dtype = packed.deserialized(slot_dtype)
        packed.check(slot_dtype, self._spec)
        rounding = checks.switch("stochastic_rounding", stochastic_rounding, None)
        use_locking = checks.switch("use_locking", use_locking)
        cautious = checks.switch("cautious", cautious)
        averaging = averagings.checked(averaging, kwargs)
        if averaging is not None:  # whose averages lie where Keras has these
            kwargs["use_ema"] = True
        extension.check(self)
        if learning_rate_multipliers:
            extension.check_takes_rates(self)
        super().__init__(*args, **kwargs)
        self.sparse_update = sparse_update
        self._not_decayed = matching.checked(
            "exclude_from_weight_decay", exclude_from_weight_decay
        )
        self._rate_factors = matching.Factors(learning_rate_multipliers)
        self._use_locking = use_locking
        self._slots_lie_in = slot_dtype
        self._stochastic_rounding = rounding
        self._cautious = cautious
        self.averaging = averaging
        self._kept_rows = kept.Memory()
        self._seen_by_averages = average_rows.Memory()
        self._tables = exact.Memory()
        self._bundles = bundles.Bundles()
        self._members = members.Members()
        self._late_starts = late_starts.Memory()

    def _check_hyperparameters(self):
        """Raises ValueError for a hyperparameter that no step could use."""
        values = [getattr(self, name, None) for name in self._spec.checked_attributes]
        key = (*zip(map(type, values), values, strict=True), self._is_built())
        is_plain = _PLAIN.issuperset(map(type, values))
        if is_plain and key == vars(self).get("_checked_values"):
            return
        checks.check_keras_arguments(self)
        for hyper in (*self._spec.hyper, *self._spec.checked):
            hyper.check(getattr(self, hyper.attribute))
        switches = {*self._spec.switches.values(), *self._spec.flags}
        checks.check_switches(self, sorted(switches))
        checks.check_sparse_update(self.sparse_update, self._spec)
        if self.cautious:
            self._check_takes_cautious_steps()
        if self._is_built():
            self._check_built_for_options()
            self._members.forget_unless(tuple(map(self._has_slot, self._spec.slots)))
        if is_plain:  # kept where Keras does not look for what it saves
            vars(self)["_checked_values"] = key

    def _check_takes_cautious_steps(self):
        """Raises ValueError for a step without a momentum, or not of our op's."""
        is_rule = self._spec.is_cautious_rule
        if is_rule and checks.static_value(getattr(self, "momentum", 1.0)) != 0:
            extension.check_takes_cautious_steps(self)
            return
        why = "has no cautious step (docs/optimizers.md says which do)"
        if is_rule:
            why = "has no momentum as long as `momentum` is 0"
        raise ValueError(
            f"`cautious` must be False: {self._spec.name} {why}. Received: "
            "cautious=True"
        )

    def _has_slot(self, slot):
        """Whether its option is on, or may be some day: a variable's value changes."""
        switch = self._spec.switches.get(slot.name)
        if switch is None:
            return True
        value = getattr(self, switch)
        return checks.is_tensor(value) or bool(value)

    def _make_slot(self, variable, slot):
        """Makes a slot of a class whose slots are ours to make."""
        value = self._spec.initial.get(slot.name, 0.0)
        if isinstance(value, str):
            value = getattr(self, value)
        if slot.name in self._spec.starts_at_variable:
            # Not assigned once it is made: a checkpoint may have given it another
            # value, and it may have a copy on each replica.
            value = keras_private.raw(variable)
            if tf.executing_eagerly() and not value.is_initialized():
                made = self._add_slot(variable, slot, 0.0)
                self._late_starts.add(keras_private.raw(made), value)
                return made
        return self._add_slot(variable, slot, value)

    def _make_count_of_averages(self):
        """How often `averaging` has taken averages: it is saved with them."""
        if self.averaging is not None:
            self._averages_taken = self.add_variable(
                shape=(), dtype="int64", name="averages_taken"
            )

    def _check_built_for_options(self):
        """Raises ValueError for an option that is on, and was not at `build`."""
        if not keras_private.built_with(self):
            return  # as Keras' .h5 files do: the first step says what is wrong
        own = vars(self)
        accumulates = bool(getattr(self, "gradient_accumulation_steps", None))
        averages = "_model_variables_moving_average"
        made = {
            "use_ema": (self.use_ema, averages),
            "averaging": (self.averaging is not None, "_averages_taken"),
            "gradient_accumulation_steps": (accumulates, "_accumulated_gradients"),
        }
        for slot in self._spec.slots:
            if slot.name in self._spec.switches:
                name = self._spec.switches[slot.name]
                made[name] = self._has_slot(slot), slot.attribute
        for name, (is_on, attribute) in made.items():
            variables = own.get(attribute)
            is_none = variables is None or isinstance(variables, list) and not variables
            if is_on and is_none:
                raise ValueError(
                    f"`{name}` must be set before the optimizer is built: it has no "
                    f"variables for it. Received: {name}={getattr(self, name)!r}"
                )

    def get_config(self) -> dict[str, Any]:
        """The stock class's configuration, and our own arguments."""
        config = {
            **super().get_config(),
            "sparse_update": self.sparse_update,
            "use_locking": self.use_locking,
            "slot_dtype": self.slot_dtype,
            "stochastic_rounding": self.stochastic_rounding,
        }
        if self.cautious:
            config["cautious"] = True
        if self.averaging is not None:
            made = tf.keras.utils.serialize_keras_object(self.averaging)
            config["averaging"] = made
        if self._not_decayed:
            config["exclude_from_weight_decay"] = list(self._not_decayed)
        if self.learning_rate_multipliers:
            config["learning_rate_multipliers"] = self.learning_rate_multipliers
        return {name: checks.plain(value) for name, value in config.items()}

    def _rate_of_step(self):
        """The learning rate of the step to come."""
        return self._decayed(self.learning_rate)

    def _per_step_hyper(self):
        """The values of the spec's `per_step`."""
        return ()

    def _is_decayed(self, variable):
        """Whether weight decay is for a variable."""
        if matching.is_named(self, variable, self._not_decayed):
            return False
        return keras_private.is_decayed(self, variable)

    def _hyper_of(self, variable):
        """Pairs of those hyperparameters in which a variable differs from others."""
        del variable
        return ()

    def _rate_factor_of(self, variable):
        """What the learning rate is multiplied by for a variable."""
        factors = self._rate_factors
        return factors.of(self, variable) if factors.by_pattern else 1.0

    @property
    def slot_dtype(self) -> SlotDtype:
        """As given to the constructor."""
        return self._slots_lie_in

    @slot_dtype.setter
    def slot_dtype(self, value: SlotDtype) -> None:
        packed.check(value, self._spec)
        if self._is_built():
            raise ValueError(
                "`slot_dtype` must be set before the optimizer is built: its slots are "
                f"made. Received: slot_dtype={value!r} in place of "
                f"{self.slot_dtype!r}. `tf_optim.unfuse`, and then `tf_optim.fuse`, "
                "make an optimizer of the same state with another."
            )
        self._slots_lie_in = value

    @property
    def stochastic_rounding(self) -> bool | None:
        """As given to the constructor, or as set since."""
        return self._stochastic_rounding

    @stochastic_rounding.setter
    def stochastic_rounding(self, value: bool | None) -> None:
        value = checks.switch("stochastic_rounding", value, None)
        self._stochastic_rounding = value

    @property
    def use_locking(self) -> bool:
        """As given to the constructor, or as set since."""
        return self._use_locking

    @use_locking.setter
    def use_locking(self, value: bool) -> None:
        self._use_locking = checks.switch("use_locking", value)

    @property
    def cautious(self) -> bool:
        """As given to the constructor, or as set since."""
        return self._cautious

    @cautious.setter
    def cautious(self, value: bool) -> None:
        self._cautious = checks.switch("cautious", value)

    @property
    def learning_rate_multipliers(self) -> dict[str, float]:
        """As given to the constructor; empty for none."""
        return dict(self._rate_factors.by_pattern)

    def _decay_rate_of(self, variable):
        """A variable's `weight_decay`, if it decays."""
        del variable
        return self.weight_decay

    def _decay_of(self, variable):
        """The rate of weight decay that a step uses, 0 for none."""
        rate = self._decay_rate_of(variable)
        if rate is None or not self._is_decayed(variable):
            return 0.0
        return checks.as_number(rate)

    def _own_numbers(self, members):
        """For each variable the factor of its rate, its own hyperparameters, decay."""
        return [
            (self._rate_factor_of(v), self._hyper_of(v), self._decay_of(v))
            for v in [member.variable for member in members]
        ]

    def _step_numbers(self, per_step, learning_rate=None):
        """What all variables of a step share, as the ops take it."""
        if learning_rate is None:
            learning_rate = self._rate_of_step()
        hyper = [getattr(self, hyper.attribute) for hyper in self._spec.hyper]
        return op_calls.StepNumbers(
            learning_rate=learning_rate,
            iterations=tf.cast(tf.convert_to_tensor(self.iterations), tf.int64),
            hyper=(*map(checks.as_number, hyper), *per_step),
            flags=tuple([bool(getattr(self, flag)) for flag in self._spec.flags]),
            use_locking=self.use_locking,
            stochastic_rounding=self.stochastic_rounding,
            bundles=self._bundles,
        )

    def _apply_updates(self, numbers, updates, scale):
        """Takes the step of a device's variables, once each. Returns the ops."""
        return op_calls.call_ops(self._spec, numbers, updates, scale)

    def _after_step(self, per_step):
        """What a class keeps of `per_step` once the step is done."""

    def _ready_to_hand_on(self):
        """Brings up to date what stock's class goes on from, and ours does not."""

    @property
    def step_statistics(self) -> Any:
        """What the last step has seen and done; None until it is set to True.

        Set it before the step is traced by a `tf.function`: what is traced stays as
        it is. It costs one read of the gradients, or none where they are read
        already: with `clipnorm`, `global_clipnorm`, or in our LossScaleOptimizer. The
        norm of the update is measured by the update, while its memory is in a cache.

        Example:

        >>> import tf_optim
        >>> opt = tf_optim.SGD(0.1, clipnorm=1.0)
        >>> opt.step_statistics = True
        >>> opt.apply_gradients([(tf.constant([3.0, 4.0]), tf.Variable([1.0, 1.0]))])
        >>> opt.step_statistics.numbers()["gradient_norm"]
        5.0
        """
        return self._step_statistics

    @step_statistics.setter
    def step_statistics(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise ValueError(
                "`step_statistics` must be set to True or False. Received: "
                f"step_statistics={value!r}"
            )
        if value != (self._step_statistics is not None):
            self._step_statistics = statistics.StepStatistics() if value else None
