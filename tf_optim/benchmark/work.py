"""What is to be measured: a case with one variant of one optimizer."""

import dataclasses

import numpy as np

from tf_optim.benchmark import cases

LEARNING_RATE = 0.001


@dataclasses.dataclass(frozen=True)
class Work:
    """One row group of the table; travels to the workers as JSON.

    Attributes:
      case: a `cases.Case`.
      optimizer: name of the optimizer's class.
      options: keyword arguments beyond the defaults.
      hyper: all hyperparameters of the update, by name, flags too.
      slots: the slots that this variant has, with their initial values.
      row_slots: those among them that keep one number per row.
      weight_decay: the rate of decoupled weight decay.
    """

    case: cases.Case
    optimizer: str
    options: dict
    hyper: dict
    slots: dict
    row_slots: tuple = ()
    weight_decay: float = 0.0

    @property
    def label(self):
        options = ", ".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.optimizer}({options})" if options else self.optimizer

    @property
    def full_slots(self):
        """Number of slots of the variable's own shape."""
        return len(self.slots) - len(self.row_slots)

    @classmethod
    def from_json(cls, fields):
        """The work whose `dataclasses.asdict` went through JSON."""
        case = dict(fields.pop("case"))
        case["shapes"] = tuple(map(tuple, case["shapes"]))
        for field in ("optimizers", "each_dtype", "each_ids"):
            case[field] = tuple(case[field])
        return cls(case=cases.Case(**case), **fields)


# What `--quick` measures where no optimizer is named.
_QUICK = ("Adam", "RMSprop")


def _variant(spec, cls, options):
    """The part of a `Work` that an optimizer says of itself, once built."""
    import tensorflow as tf

    optimizer = cls(**options)
    optimizer.build([tf.Variable(tf.zeros([3, 2]))])
    # The list of a slot whose option is off is empty or missing.
    built = {s: getattr(optimizer, s.attribute, None) for s in spec.slots}
    slots = {slot: np.asarray(made[0]) for slot, made in built.items() if made}
    hyper = (h.attribute for h in (*spec.hyper, *spec.checked))
    return {
        "optimizer": spec.name,
        "options": options,
        "hyper": {name: getattr(optimizer, name) for name in (*hyper, *spec.flags)},
        "slots": {
            slot.name: None
            if slot.name in spec.starts_at_variable
            else float(array.flat[0])
            for slot, array in slots.items()
        },
        "row_slots": tuple(slot.name for slot in slots if not slot.per_element),
        "weight_decay": optimizer.weight_decay or 0.0,
    }


def exists(name):
    """Whether there is an optimizer of that name."""
    from tf_optim.specs import SPECS

    return name in SPECS


def plan(chosen_cases, optimizers=(), quick=False, full=False):
    """All the work of `chosen_cases`.

    Args:
      chosen_cases: list of `cases.Case`.
      optimizers: names to keep; when empty, those that the case is run for.
      quick: fewer optimizers where none is named.
      full: every optimizer, with the variants of its options, where a case has them.

    Raises:
      ValueError: for an optimizer that does not exist.
    """
    import tf_optim
    from tf_optim.specs import SPECS

    for name in optimizers:
        if not exists(name):
            raise ValueError(
                f"optimizer must be one of {', '.join(SPECS)}. Received: {name}."
            )
    variants = [
        _variant(spec, getattr(tf_optim, name), options)
        for name, spec in SPECS.items()
        for options in spec.options
    ]
    planned = []
    for case in chosen_cases:
        every = case.variants and full and not quick
        own = () if every else case.optimizers
        kept = optimizers or (_QUICK if quick else own) or SPECS
        planned += [
            Work(case, **variant)
            for variant in variants
            if variant["optimizer"] in kept and (every or not variant["options"])
        ]
    return planned
