"""Subjects on torch: its optimizers, in each of their forms.

Gradients are assigned before the clock starts: in training autograd has done it.
"""

import inspect
import itertools

import numpy as np

from tf_optim.benchmark.subjects import ALLOCATOR, NotInstalled, Subject, Unsupported
from tf_optim.benchmark.work import LEARNING_RATE

try:
    import torch
except ImportError as error:
    raise NotInstalled("torch") from error


def tensor(array):
    """A torch tensor of its own memory, from NumPy; bfloat16 goes by its bits."""
    if array.dtype == np.float32:
        return torch.from_numpy(array.copy())
    return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)


def _sgd(work):
    return {key: work.hyper[key] for key in ("momentum", "nesterov")}


def _rmsprop(work):
    return {
        "alpha": work.hyper["rho"],
        "eps": work.hyper["epsilon"],
        "momentum": work.hyper["momentum"],
        "centered": work.options.get("centered", False),
    }


def _adagrad(work):
    return {
        "initial_accumulator_value": work.slots["accumulator"],
        "eps": work.hyper["epsilon"],
    }


def _adadelta(work):
    return {"rho": work.hyper["rho"], "eps": work.hyper["epsilon"]}


def _betas(work):
    h = work.hyper
    return {"betas": (h["beta_1"], h["beta_2"]), "eps": h["epsilon"]}


def _adam(work):
    return {**_betas(work), "amsgrad": work.options.get("amsgrad", False)}


def _adamw(work):
    return {**_adam(work), "weight_decay": work.weight_decay}


def _nadam(work):
    return {**_betas(work), "momentum_decay": 1.0}  # Dozat's and Keras' schedule


def _rprop(work):
    h = work.hyper
    return {
        "etas": (h["eta_minus"], h["eta_plus"]),
        "step_sizes": (h["min_step"], h["max_step"]),
    }


def _asgd(work):
    return {key: work.hyper[key] for key in ("lambd", "alpha", "t0")}


# name -> (torch's class, its arguments)
_DENSE = {
    "SGD": ("SGD", _sgd),
    "RMSprop": ("RMSprop", _rmsprop),
    "Adagrad": ("Adagrad", _adagrad),
    "Adadelta": ("Adadelta", _adadelta),
    "Adam": ("Adam", _adam),
    "AdamW": ("AdamW", _adamw),
    "Adamax": ("Adamax", _betas),
    "Nadam": ("NAdam", _nadam),
    "RectifiedAdam": ("RAdam", _betas),
    "Rprop": ("Rprop", _rprop),
    "ASGD": ("ASGD", _asgd),
}
# The same for gradients that name rows.
_SPARSE = {
    "SGD": ("SGD", _sgd),
    "Adagrad": ("Adagrad", _adagrad),
    "Adam": ("SparseAdam", _betas),
}


class Torch(Subject):
    """torch.optim on dense gradients.

    Attributes:
      implementation: torch's arguments that choose one.
    """

    recipes = _DENSE
    implementation = {}

    def __init__(self, work, inputs):
        if work.optimizer not in self.recipes:
            raise Unsupported(f"has no {work.optimizer}")
        name, arguments = self.recipes[work.optimizer]
        cls = getattr(torch.optim, name)
        for argument in self.implementation:
            if argument not in inspect.signature(cls).parameters:
                raise Unsupported(f"has no {argument} {name}")
        self._case = inputs.case
        self._every = range(len(inputs.case.shapes))
        self._look_at(inputs.case)
        self._parameters = [
            torch.nn.Parameter(tensor(inputs.initial(i))) for i in self._every
        ]
        self._optimizer = cls(
            self._parameters,
            lr=LEARNING_RATE,
            **arguments(work),
            **self.implementation,
        )
        self._batches = itertools.cycle(self._gradients(inputs))
        self._make_step = self._optimizer.step

    def _look_at(self, case):
        """Unsupported, or what is to be said of the case."""
        if case.tables:
            raise Unsupported("takes rows in an optimizer of their own only")
        if all(case.dtype_of(i) == "bfloat16" for i in self._every):
            self.slot_item = 2
            self.note = "slots of 2 bytes"

    def _gradients(self, inputs):
        """One list of gradients per batch."""
        return [[tensor(inputs.gradient(i)) for i in self._every]]

    def before(self):
        batch = next(self._batches)
        for parameter, gradient in zip(self._parameters, batch, strict=True):
            parameter.grad = gradient

    def step(self):
        self._make_step()

    def read(self, i, positions):
        values = self._parameters[i].detach()
        if not self._case.ids_of(i):
            values = values.reshape(-1)
        return values[torch.from_numpy(positions)].double().numpy()


class ForLoop(Torch):
    implementation = {"foreach": False}


class Foreach(Torch):
    implementation = {"foreach": True}


class Fused(Torch):
    implementation = {"fused": True}


class Compiled(Torch):
    """`torch.compile(optimizer.step)`, of the foreach form as torch has it."""

    def __init__(self, work, inputs):
        super().__init__(work, inputs)
        self._make_step = torch.compile(self._optimizer.step)


class ForeachWithAllocator(Foreach):
    """The C library maps large temporaries anew in each step; others keep them."""

    def __init__(self, work, inputs):
        if not ALLOCATOR:
            raise NotInstalled("tcmalloc or jemalloc")
        super().__init__(work, inputs)
        self.note = ALLOCATOR


class Sparse(Torch):
    """torch.optim on sparse gradients, not coalesced, as autograd makes them."""

    recipes = _SPARSE
    lazy = True

    def __init__(self, work, inputs):
        if work.options:
            raise Unsupported(f"has no sparse {work.label}")
        super().__init__(work, inputs)

    def _look_at(self, case):
        if len(case.tables) < len(case.shapes):
            raise Unsupported("takes rows in an optimizer of their own only")

    def _gradients(self, inputs):
        values = [tensor(inputs.gradient(i)) for i in self._every]

        def sparse(i, batch):
            ids = torch.from_numpy(inputs.ids(i)[batch])[None]
            return torch.sparse_coo_tensor(ids, values[i], self._parameters[i].shape)

        batches = range(inputs.case.batches)
        return [[sparse(i, batch) for i in self._every] for batch in batches]


class Coalesced(Sparse):
    """Repeated ids have been found and their rows summed: that is not timed."""

    def before(self):
        super().before()
        for parameter in self._parameters:
            parameter.grad = parameter.grad.coalesce()


class SparseAfterLookup(Sparse):
    """When the rows have just been looked up, as training has it."""

    def before(self):
        super().before()
        self._rows = [
            parameter.detach()[parameter.grad._indices()[0]]
            for parameter in self._parameters
        ]
