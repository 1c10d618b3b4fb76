"""What each optimizer is made of. Its C++ says most of it; classes say the rest."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_optim import checks, library

# The class's name -> its `Spec`, where it is a rule; `flavour.register` fills it.
SPECS: dict[str, Spec] = {}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot: its name in the op, and the stock class's list of its variables.

    `shape` makes its shape of the variable's; None where they are the same. So it is
    with `dtype`, but for float32 slots of 16-bit variables.
    """

    name: str
    attribute: str
    shape: Callable[[Any], Any] | None = None
    optional: bool = False
    positive: bool = False
    dtype: str | None = None

    @property
    def per_element(self) -> bool:
        """Whether it has the variable's shape."""
        return self.shape is None

    def shape_for(self, variable: Any) -> tf.TensorShape:
        """Its shape, for a variable."""
        shape = tf.TensorShape(variable.shape)
        return tf.TensorShape(shape if self.shape is None else self.shape(shape))


def _rows_of(shape):
    return shape[:1]


@dataclasses.dataclass(frozen=True)
class Hyper:
    """A hyperparameter: its name in the op, and in the stock class.

    `low` and `high` bound its values; `high` itself is allowed if `closed`.
    """

    name: str
    attribute: str
    low: float = 0.0
    high: float = float("inf")
    closed: bool = False

    def check(self, value):
        """Raises ValueError unless `value` is a number within the bounds."""
        number = checks.static_value(value)
        if number is None:
            return  # the op will see
        is_inside = self.low <= number < self.high and number != -float("inf")
        if is_inside or (self.closed and number == self.high):
            return
        bounds = f"in [{self.low:g}, {self.high:g}{']' if self.closed else ')'}"
        if self.high == -self.low == float("inf"):
            bounds = "a finite number"
        elif self.high == float("inf"):
            bounds = f"a finite number >= {self.low:g}"
        elif self.low == -float("inf"):
            bounds = f"a finite number <= {self.high:g}"
        raise ValueError(
            f"`{self.attribute}` must be {bounds}. Received: {self.attribute}={value!r}"
        )


# What a slot starts at: no input of the op, and checked all the same.
INITIAL = Hyper("", "initial_accumulator_value")


@functools.cache
def _rules():
    return library.native().rules()


def _as_tensorflow_spells(name):
    """An op's name in Python: RMSprop is rm_sprop there, and AdEMAMix ad_ema_mix."""
    words = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
    return re.sub(words, "_", name).lower()


def _as_keras_lists(name):
    """The attribute of a slot's variables: momentum is in _momentums."""
    return f"_{re.sub('y$', 'ie', name)}s"


@dataclasses.dataclass(frozen=True)
class Spec:
    """An optimizer, as far as its rule in C++ does not say it.

    Attributes:
        rule: the rule's `kName`.
        attributes: the class's name of a hyperparameter or slot, where it is another
            than the rule's (of a slot: than its plural behind an underscore).
        options: keyword arguments that change what the op does, each set with the
            values worth testing and measuring.
        checked: further arguments that have bounds and are no input of the op.
        initial: of a slot that does not start at 0 the number, or the attribute that
            says it.
        switches: of an optional slot the attribute that asks for it.
        starts_at_variable: slots that start as copies of the variable. This and
            `initial` are for classes whose slots we make (`base.Optimizer`).
        slot_dtypes: in what its slots may be kept.
        why_not_packed: why not in the others.
        is_stocks_step: whether it takes the step of the Keras class of its name, so
            that it may stand in for that.
        is_rule: whether its step is that of the rule and nothing else.
        name: the class's name; `flavour.register` gives it.
    """

    rule: str
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    options: tuple[dict[str, Any], ...] = ({},)
    checked: tuple[Hyper, ...] = ()
    initial: Mapping[str, str | float] = dataclasses.field(default_factory=dict)
    switches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slot_dtypes: tuple[str, ...] = ("float32", "bfloat16", "int8")
    why_not_packed: str = ""
    starts_at_variable: tuple[str, ...] = ()
    is_stocks_step: bool = True
    is_rule: bool = True
    name: str = ""

    @functools.cached_property
    def _said(self):
        return _rules()[self.rule]

    @functools.cached_property
    def hyper(self) -> tuple[Hyper, ...]:
        """The hyperparameters that are attributes, in the order of the op's inputs."""
        count = len(self._said["hyper"]) - self._said["per_step"]
        named = zip(self._said["hyper"][:count], self._said["ranges"], strict=False)
        return tuple(
            Hyper(name, self.attributes.get(name, name), *bounds)
            for name, bounds in named
        )

    @functools.cached_property
    def per_step(self) -> tuple[str, ...]:
        """Those that the class works out anew for each step, behind the others."""
        return tuple(self._said["hyper"][len(self.hyper) :])

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, in the order of the op's inputs."""
        return tuple(
            Slot(
                slot["name"],
                self.attributes.get(slot["name"], _as_keras_lists(slot["name"])),
                _rows_of if slot["per_row"] else None,
                slot["optional"],
                slot["positive"],
            )
            for slot in self._said["slots"]
        )

    @functools.cached_property
    def checked_attributes(self) -> tuple[str, ...]:
        """All that the check of hyperparameters reads."""
        own = [hyper.attribute for hyper in (*self.hyper, *self.checked)]
        options = "sparse_update", "use_ema", "averaging", "cautious"
        return (*own, *self.switches.values(), *options, *checks.KERAS_ARGUMENTS)

    @functools.cached_property
    def flags(self) -> tuple[str, ...]:
        """The op's bool attributes, which are attributes of the class too."""
        return tuple(self._said["flags"])

    @property
    def is_cautious_rule(self) -> bool:
        """Whether its steps can be cautious."""
        return self.is_rule and "cautious" in self.flags

    @property
    def needs_whole_table(self) -> bool:
        """Whether a row's update depends on all rows."""
        return self._said["needs_whole_table"]

    @functools.cached_property
    def hyper_names(self) -> tuple[str, ...]:
        """The op's inputs that are hyperparameters, in its order."""
        return tuple(self._said["hyper"])

    @functools.cached_property
    def op_names(self) -> dict[tuple[bool, bool], str]:
        """The ops' names in Python, without their prefix, by two questions.

        Whether gradients name rows, and whether variables come behind one handle.
        """
        rule = _as_tensorflow_spells(self.rule)
        return {
            (sparse, bundled): f"{handles}_{kind}apply_{rule}"
            for sparse, kind in ((False, ""), (True, "sparse_"))
            for bundled, handles in ((False, "resource"), (True, "bundle"))
        }
