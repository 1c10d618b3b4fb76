"""What a row of the table in tests/cases.py is made of."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Slot:
    """A slot as checkpoints know it.

    Attributes:
      name: the slot's.
      option: the argument that creates it, if it is optional.
      initial: what it starts at; None for the variable.
      per_row: whether it has one number per row.
      share: of a mean with either sign, what of it the slot holds; None for what is
        never negative, such as a mean of squares.
      is_sign: whether it holds 1, 0 and -1 alone.
      follows_nan: whether a gradient that is NaN makes it NaN.
    """

    name: str
    option: str | None = None
    initial: float | None = 0.0
    per_row: bool = False
    share: float | None = None
    is_sign: bool = False
    follows_nan: bool = True

    def start(self, variable, number=lambda x: x):
        """Its array before the first step; `number` rounds what it starts at."""
        if self.initial is None:
            return np.array(variable)
        return np.full(self.shape(variable.shape), number(self.initial))

    def shape(self, variable):
        """The slot's shape for a variable of this one."""
        return variable[:1] if self.per_row else variable


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
      stock_errors: the same, where stock refuses in its own words.
      limits: constructor arguments at the end of their range, and taken.
      scope: what an element's result depends on: "element", its "row", or the
        "variable".
      cancelling: a function of (hyper, learning rate, inputs, results) to the size
        of what cancels within the formula, for each result: it is rounded too.
      op_names: what the op calls a hyperparameter, where not as Keras does.
      rule: the op's and the kernels' name, where not the class's.
      flags: hyperparameters that are bool attributes of the op.
      bounds: of an op's input whose range its name does not say, what the message
        says is expected, and a value out of it.
      python_only: hyperparameters that are no inputs of the op: `per_step` is made of
        them.
      constants: inputs of the op that no argument sets for all variables.
      per_step: a function of (hyper, iterations) to the op's inputs that depend on
        the step.
      learning_rate: one at which it gets somewhere in 200 steps.
      stock_rtol: how near to the reference stock is in float64.
      parity: how many times as far as others it may be from stock in float32.
      wrong_in_graph: whether tf_keras' own is wrong inside a tf.function.
      in_stock: whether each flavour has it: (Keras 3, tf_keras).
    """

    name: str
    defaults: dict
    slots: tuple
    variants: dict
    errors: tuple
    stock_errors: tuple = ()
    limits: tuple = ()
    scope: str = "element"
    cancelling: object = None
    op_names: dict = dataclasses.field(default_factory=dict)
    rule: str = ""
    flags: tuple = ()
    bounds: dict = dataclasses.field(default_factory=dict)
    python_only: tuple = ()
    constants: dict = dataclasses.field(default_factory=dict)
    per_step: object = None
    learning_rate: float = 0.01
    stock_rtol: float = 1e-11
    parity: float = 1
    wrong_in_graph: bool = False
    in_stock: tuple = (True, True)

    @property
    def mechanism(self):
        """What its kernels and its class need beyond one step of fixed slots."""
        optional = any(slot.option for slot in self.slots)
        flags = [flag for flag in self.flags if flag != "cautious"]
        special = flags, self.per_step, self.cancelling
        return self.scope, optional, *map(bool, special)

    def with_cautious_steps(self, **arguments):
        """The row with one more variant, of these constructor arguments."""
        return dataclasses.replace(
            self,
            defaults={**self.defaults, "cautious": False},
            variants={**self.variants, "cautious": {**arguments, "cautious": True}},
            flags=(*self.flags, "cautious"),
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
    def is_cautious(self):
        return self.arguments.get("cautious", False)

    @property
    def scope(self):
        """As the optimizer's; how many elements agree is known of a variable."""
        return "variable" if self.is_cautious else self.optimizer.scope

    @property
    def is_exact(self):
        """Whether there are exact steps of rows."""
        return self.optimizer.scope != "variable"

    @property
    def rule(self):
        """The name of the op's and the kernels' optimizer."""
        return self.optimizer.rule or self.name

    def op_hyper(self, iterations):
        """`hyper` under the names of the op's inputs, after `iterations` steps."""
        names = self.optimizer.op_names
        inputs = {
            names.get(key, key): value
            for key, value in self.hyper.items()
            if key not in (*self.optimizer.flags, *self.optimizer.python_only)
        }
        per_step = self.optimizer.per_step
        inputs |= self.optimizer.constants
        return inputs | (per_step(self.hyper, iterations) if per_step else {})

    def with_decay(self, rate=None):
        """What the reference takes for the class, with that `weight_decay`."""
        if rate is None:
            return {"hyper": self.hyper}
        if "weight_decay" in self.hyper:  # a part of the step
            return {"hyper": {**self.hyper, "weight_decay": rate}}
        return {"hyper": self.hyper, "weight_decay": rate}

    @property
    def flags(self):
        """The op's bool attributes."""
        return {flag: self.hyper[flag] for flag in self.optimizer.flags}

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
