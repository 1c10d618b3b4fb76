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
      hyper: all hyperparameters of the update, by name.
      slots: the slots that this variant has, with their initial values.
      row_slots: those among them that keep one number per row.
    """

    case: cases.Case
    optimizer: str
    options: dict
    hyper: dict
    slots: dict
    row_slots: tuple = ()

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
        return cls(case=cases.Case(**case), **fields)


# FBGEMM's strongest CPU kernel, shown for what it is where the package has no
# such optimizer: its update is not that of any other row.
_PEERS_ALONE = {
    "RowWiseAdagrad": {
        "hyper": {"epsilon": 1e-7},
        "slots": {"accumulator": 0.0},
        "row_slots": ("accumulator",),
    }
}


def _variant(spec, cls, options):
    """The part of a `Work` that an optimizer says of itself, once built."""
    import tensorflow as tf

    optimizer = cls(**options)
    optimizer.build([tf.Variable(tf.zeros([3, 2]))])
    # The list of a slot whose option is off is empty or missing.
    built = {s.name: getattr(optimizer, s.attribute, None) for s in spec.slots}
    slots = {name: np.asarray(made[0]) for name, made in built.items() if made}
    return {
        "optimizer": spec.name,
        "options": options,
        "hyper": {h.attribute: getattr(optimizer, h.attribute) for h in spec.hyper},
        "slots": {name: float(slot.flat[0]) for name, slot in slots.items()},
        "row_slots": tuple(name for name, slot in slots.items() if slot.size == 3),
    }


def plan(chosen_cases, optimizers=(), plain_only=False):
    """All the work of `chosen_cases`, for every optimizer of the package.

    Args:
      chosen_cases: list of `cases.Case`.
      optimizers: names to keep; all when empty.
      plain_only: leave out the variants of optimizers.

    Raises:
      ValueError: for an optimizer that does not exist.
    """
    import tf_optim
    from tf_optim.specs import SPECS

    known = list(SPECS) + [name for name in _PEERS_ALONE if name not in SPECS]
    for name in optimizers:
        if name not in known:
            raise ValueError(
                f"optimizer must be one of {', '.join(known)}. Received: {name}."
            )
    kept = [name for name in known if not optimizers or name in optimizers]
    variants = [
        _variant(SPECS[name], getattr(tf_optim, name), options)
        for name in kept
        if name in SPECS
        for options in SPECS[name].options
    ]
    planned = []
    for case in chosen_cases:
        every = case.variants and not plain_only
        planned += [Work(case, **v) for v in variants if every or not v["options"]]
        if case.kind == "sparse" and not plain_only:
            planned += [
                Work(case, name, options={}, **_PEERS_ALONE[name])
                for name in kept
                if name not in SPECS
            ]
    return planned
