"""What each optimizer is made of: one row each, shared by all of the package."""

import dataclasses
import re

from tf_optim import checks


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot: its name in the op, and the stock class's list of its variables."""

    name: str
    attribute: str
    per_row: bool = False


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
        if self.low <= number < self.high or (self.closed and number == self.high):
            return
        bounds = f"in [{self.low:g}, {self.high:g}{']' if self.closed else ')'}"
        if self.high == float("inf"):
            bounds = f"a finite number >= {self.low:g}"
        if self.low == -float("inf"):
            bounds = f"a finite number <= {self.high:g}"
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

    Attributes:
        name: the class's name.
        hyper: its `Hyper`s.
        slots: its `Slot`s.
        checked: further arguments that have bounds and are no input of the op.
        options: keyword arguments that change what the op does, each set with the
            values worth testing and measuring.
        rule: the op's optimizer, if it has another name.
        flags: the op's bool attributes, which are attributes of the class too.
        per_step: hyperparameters that the class works out anew for each step, in
            the order of the op's inputs behind `hyper`.
        needs_whole_table: whether a row's update depends on all rows.
    """

    name: str
    hyper: tuple
    slots: tuple
    checked: tuple = ()
    options: tuple = ({},)
    rule: str = ""
    flags: tuple = ()
    per_step: tuple = ()
    needs_whole_table: bool = False

    @property
    def hyper_names(self):
        """The op's inputs that are hyperparameters, in its order."""
        return (*(hyper.name for hyper in self.hyper), *self.per_step)

    @property
    def op_name(self):
        """The name of the dense op in Python, without its prefix."""
        return f"resource_apply_{_as_tensorflow_spells(self.rule or self.name)}"

    @property
    def sparse_op_name(self):
        """The name of the sparse op in Python, without its prefix."""
        return f"resource_sparse_apply_{_as_tensorflow_spells(self.rule or self.name)}"


_BETA_1 = Hyper("beta_1", "beta_1", high=1.0)
_BETA_2 = Hyper("beta_2", "beta_2", high=1.0)
_RHO = Hyper("rho", "rho", high=1.0)
_EPSILON = Hyper("epsilon", "epsilon")
_INITIAL = Hyper("", "initial_accumulator_value")
_MOMENTUM = Slot("momentum", "_momentums")
_VELOCITY = Slot("velocity", "_velocities")

_ADAM = Spec(
    name="Adam",
    hyper=(_BETA_1, _BETA_2, _EPSILON),
    slots=(_MOMENTUM, _VELOCITY, Slot("velocity_hat", "_velocity_hats")),
    options=({}, {"amsgrad": True}),
)

SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            name="SGD",
            hyper=(Hyper("momentum_rate", "momentum", high=1.0, closed=True),),
            slots=(Slot("momentum", "momentums"),),
            options=({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
            flags=("nesterov",),
        ),
        Spec(
            name="RMSprop",
            hyper=(_RHO, Hyper("momentum_rate", "momentum", high=1.0), _EPSILON),
            slots=(
                _VELOCITY,
                _MOMENTUM,
                Slot("average_gradient", "_average_gradients"),
            ),
            options=(
                {},
                {"momentum": 0.9},
                {"centered": True},
                {"momentum": 0.9, "centered": True},
            ),
        ),
        Spec(
            name="Adagrad",
            hyper=(_EPSILON,),
            slots=(Slot("accumulator", "_accumulators"),),
            checked=(_INITIAL,),
        ),
        Spec(
            name="RowWiseAdagrad",
            hyper=(_EPSILON,),
            slots=(Slot("accumulator", "_accumulators", per_row=True),),
            checked=(_INITIAL,),
        ),
        Spec(
            name="Adadelta",
            hyper=(_RHO, _EPSILON),
            slots=(
                Slot("accumulated_grad", "_accumulated_grads"),
                Slot("accumulated_delta_var", "_accumulated_delta_vars"),
            ),
        ),
        _ADAM,
        dataclasses.replace(_ADAM, name="AdamW", rule="Adam", options=({},)),
        Spec(
            name="Adamax",
            hyper=(_BETA_1, _BETA_2, _EPSILON),
            slots=(Slot("momentum", "_m"), Slot("norm", "_u")),
        ),
        Spec(
            name="Nadam",
            hyper=(_BETA_1, _BETA_2, _EPSILON),
            slots=(_MOMENTUM, _VELOCITY),
            per_step=("mu", "mu_next", "mu_product"),
        ),
        Spec(
            name="Ftrl",
            hyper=(
                Hyper(
                    "learning_rate_power",
                    "learning_rate_power",
                    low=-float("inf"),
                    high=0.0,
                    closed=True,
                ),
                Hyper("l1", "l1_regularization_strength"),
                Hyper("l2", "l2_regularization_strength"),
                Hyper("l2_shrinkage", "l2_shrinkage_regularization_strength"),
                Hyper("beta", "beta"),
            ),
            slots=(Slot("accumulator", "_accumulators"), Slot("linear", "_linears")),
        ),
        Spec(
            name="Lion",
            hyper=(
                Hyper("beta_1", "beta_1", high=1.0, closed=True),
                Hyper("beta_2", "beta_2", high=1.0, closed=True),
            ),
            slots=(Slot("momentum", "_momentums"),),
        ),
        Spec(
            name="Lamb",
            hyper=(_BETA_1, _BETA_2, _EPSILON),
            slots=(_MOMENTUM, _VELOCITY),
            needs_whole_table=True,
        ),
    )
}
