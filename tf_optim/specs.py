"""What each optimizer is made of: one row each, shared by all of the package."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot: its name in the op, and the stock class's list of its variables."""

    name: str
    attribute: str


@dataclasses.dataclass(frozen=True)
class Hyper:
    """A hyperparameter: its name in the op, and in the stock class.

    `low` and `high` bound its values; `high` itself is not allowed.
    """

    name: str
    attribute: str
    low: float = 0.0
    high: float = float("inf")

    def check(self, value):
        """Raises ValueError unless `value` is a number within the bounds."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and self.low <= value < self.high:
            return
        bounds = f"in [{self.low:g}, {self.high:g})"
        if self.high == float("inf"):
            bounds = f"a finite number >= {self.low:g}"
        raise ValueError(
            f"`{self.attribute}` must be {bounds}. Received: {self.attribute}={value!r}"
        )


def _as_tensorflow_spells(name):
    """An op's name in Python: RMSprop is rm_sprop there."""
    return re.sub(r"(?<=[A-Za-z])(?=[A-Z][a-z])", "_", name).lower()


@dataclasses.dataclass(frozen=True)
class Spec:
    """An optimizer: its class's name, and its hyperparameters and slots in the
    order of the op's inputs.

    `options` are keyword arguments that change which slots exist, each with the
    values worth testing and measuring.
    """

    name: str
    hyper: tuple
    slots: tuple
    options: tuple = ()

    @property
    def op_name(self):
        """The name of the dense op in Python, without its prefix."""
        return f"resource_apply_{_as_tensorflow_spells(self.name)}"

    @property
    def sparse_op_name(self):
        """The name of the sparse op in Python, without its prefix."""
        return f"resource_sparse_apply_{_as_tensorflow_spells(self.name)}"


SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            name="Adam",
            hyper=(
                Hyper("beta_1", "beta_1", high=1.0),
                Hyper("beta_2", "beta_2", high=1.0),
                Hyper("epsilon", "epsilon"),
            ),
            slots=(
                Slot("momentum", "_momentums"),
                Slot("velocity", "_velocities"),
                Slot("velocity_hat", "_velocity_hats"),
            ),
            options=({}, {"amsgrad": True}),
        ),
        Spec(
            name="RMSprop",
            hyper=(
                Hyper("rho", "rho", high=1.0),
                Hyper("momentum_rate", "momentum", high=1.0),
                Hyper("epsilon", "epsilon"),
            ),
            slots=(
                Slot("velocity", "_velocities"),
                Slot("momentum", "_momentums"),
                Slot("average_gradient", "_average_gradients"),
            ),
            options=(
                {},
                {"momentum": 0.9},
                {"centered": True},
                {"momentum": 0.9, "centered": True},
            ),
        ),
    )
}
