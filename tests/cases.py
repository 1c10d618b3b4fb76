"""THE table: optimizer x options x errors. Every parametrised test iterates it.

Adding an optimizer is one `Optimizer(...)` in `OPTIMIZERS` (and its formula in
tf_optim/reference.py); no test changes.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot as checkpoints know it; `option` is the argument that creates it."""

    name: str
    option: str | None = None
    initial: float = 0.0


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """One row.

    Attributes:
      name: class name, the same in Keras.
      defaults: hyperparameters and their defaults (today's Keras).
      slots: in Keras' order.
      variants: name -> constructor arguments that differ from the defaults.
      errors: constructor arguments that are refused, with what the message
        says is expected.
      elementwise: an element's result depends on that element alone.
      op_names: what the op calls a hyperparameter, where not as Keras does.
    """

    name: str
    defaults: dict
    slots: tuple
    variants: dict
    errors: tuple
    elementwise: bool = True
    op_names: dict = dataclasses.field(default_factory=dict)


OPTIMIZERS = (
    Optimizer(
        name="RMSprop",
        defaults={"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7},
        slots=(
            Slot("velocity"),
            Slot("momentum", option="momentum"),
            Slot("average_gradient", option="centered"),
        ),
        variants={
            "plain": {},
            "tuned": {"rho": 0.61, "epsilon": 1e-3},
            "momentum": {"momentum": 0.9},
            "centered": {"centered": True, "epsilon": 1e-4},
            "both": {"rho": 0.8, "momentum": 0.5, "centered": True, "epsilon": 1e-3},
        },
        errors=(
            ({"rho": 1.0}, "[0, 1)"),
            ({"rho": -0.1}, "[0, 1)"),
            ({"rho": float("nan")}, "[0, 1)"),
            ({"momentum": -0.5}, "[0, 1"),
            ({"epsilon": -1e-7}, ">= 0"),
        ),
        op_names={"momentum": "momentum_rate"},  # "momentum" is the slot
    ),
    Optimizer(
        name="Adam",
        defaults={"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
        slots=(
            Slot("momentum"),
            Slot("velocity"),
            Slot("velocity_hat", option="amsgrad"),
        ),
        variants={
            "plain": {},
            "tuned": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
            "amsgrad": {"amsgrad": True},
            "amsgrad-tuned": {"amsgrad": True, "beta_1": 0.0, "beta_2": 0.6},
        },
        errors=(
            ({"beta_1": 1.0}, "[0, 1)"),
            ({"beta_1": -0.1}, "[0, 1)"),
            ({"beta_2": 1.5}, "[0, 1)"),
            ({"beta_2": float("nan")}, "[0, 1)"),
            ({"epsilon": -1.0}, ">= 0"),
        ),
    ),
)

# Refused by every optimizer.
COMMON_ERRORS = (
    ({"sparse_update": "sloppy"}, "'lazy'"),
    ({"sparse_update": None}, "'lazy'"),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """An optimizer with its options chosen: what one test runs on."""

    optimizer: Optimizer
    variant: str

    @property
    def name(self):
        return self.optimizer.name

    @property
    def arguments(self):
        """Constructor arguments."""
        return dict(self.optimizer.variants[self.variant])

    @property
    def hyper(self):
        """Every hyperparameter of the rule, without the options."""
        return {
            key: self.arguments.get(key, default)
            for key, default in self.optimizer.defaults.items()
        }

    @property
    def op_hyper(self):
        """`hyper` under the names of the op's inputs."""
        names = self.optimizer.op_names
        return {names.get(key, key): value for key, value in self.hyper.items()}

    @property
    def slots(self):
        """The slots that these options create."""
        return tuple(
            slot
            for slot in self.optimizer.slots
            if slot.option is None or self.arguments.get(slot.option)
        )

    def __str__(self):
        return f"{self.name}-{self.variant}"


CASES = tuple(
    Case(optimizer, variant)
    for optimizer in OPTIMIZERS
    for variant in optimizer.variants
)

# One case per optimizer, all its options on: for tests of what rules share.
RICHEST = tuple(
    max(
        (case for case in CASES if case.optimizer is optimizer),
        key=lambda case: len(case.slots),
    )
    for optimizer in OPTIMIZERS
)

DTYPES = ("float32", "float64", "float16", "bfloat16")
INDEX_DTYPES = ("int32", "int64")
