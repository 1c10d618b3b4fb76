"""Subjects on torch: its optimizers, and FBGEMM's table-batched embeddings."""

import collections
import itertools
import time

import numpy as np

from tf_optim.benchmark.cases import BATCHES
from tf_optim.benchmark.subjects import NotInstalled, Subject, Unsupported
from tf_optim.benchmark.work import LEARNING_RATE

try:
    import torch
except ImportError as error:
    raise NotInstalled("torch") from error


def _tensor(array):
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


# name -> (torch's class, its arguments, the implementation that is fastest)
_DENSE = {
    "SGD": ("SGD", _sgd, {"fused": True}),
    "RMSprop": ("RMSprop", _rmsprop, {"foreach": True}),
    "Adagrad": ("Adagrad", _adagrad, {"fused": True}),
    "Adadelta": ("Adadelta", _adadelta, {"foreach": True}),
    "Adam": ("Adam", _adam, {"fused": True}),
    "AdamW": ("AdamW", _adamw, {"fused": True}),
    "Adamax": ("Adamax", _betas, {"foreach": True}),
    "Nadam": ("NAdam", _nadam, {"foreach": True}),
    "RectifiedAdam": ("RAdam", _betas, {"foreach": True}),
    "Rprop": ("Rprop", _rprop, {"foreach": True}),
    "ASGD": ("ASGD", _asgd, {"foreach": True}),
}
# The same for gradients that name rows.
_SPARSE = {
    "SGD": ("SGD", _sgd, {}),
    "Adagrad": ("Adagrad", _adagrad, {}),
    "Adam": ("SparseAdam", _betas, {}),
}


class Torch(Subject):
    """torch.optim, fused where torch has it and foreach where it has not."""

    recipes = _DENSE

    def __init__(self, work, inputs):
        if work.optimizer not in self.recipes:
            raise Unsupported(f"has no {work.optimizer}")
        self._case = inputs.case
        self.slot_item = 4 if inputs.case.dtype == "float32" else 2
        self._parameters = [
            torch.nn.Parameter(_tensor(inputs.initial(i)))
            for i in range(len(inputs.case.shapes))
        ]
        name, arguments, implementation = self.recipes[work.optimizer]
        self._optimizer = getattr(torch.optim, name)(
            self._parameters,
            lr=LEARNING_RATE,
            **arguments(work),
            **implementation,
        )
        self._batches = itertools.cycle(self._gradients(inputs))

    def _gradients(self, inputs):
        """One list of gradients per batch."""
        return [[_tensor(inputs.gradient(i)) for i in range(len(self._parameters))]]

    def step(self):
        batch = next(self._batches)
        for parameter, gradient in zip(self._parameters, batch, strict=True):
            parameter.grad = gradient
        self._optimizer.step()

    def read(self, i, positions):
        values = self._parameters[i].detach()
        if self._case.kind == "dense":
            values = values.reshape(-1)
        return values[torch.from_numpy(positions)].double().numpy()


class TorchSparse(Torch):
    """torch.optim on sparse gradients, not coalesced, as autograd makes them."""

    recipes = _SPARSE
    lazy = True

    def __init__(self, work, inputs):
        if work.options:
            raise Unsupported(f"has no sparse {work.label}")
        super().__init__(work, inputs)

    def _gradients(self, inputs):
        values = [_tensor(inputs.gradient(i)) for i in range(len(self._parameters))]

        def sparse(i, batch):
            ids = torch.from_numpy(inputs.ids(i)[batch])[None]
            return torch.sparse_coo_tensor(ids, values[i], self._parameters[i].shape)

        every = range(len(self._parameters))
        return [[sparse(i, batch) for i in every] for batch in range(BATCHES)]


class Fbgemm(Subject):
    """FBGEMM's embeddings, whose backward pass is the update; only it is timed.

    Its forward pass reads the very rows that its backward pass will update. That
    is made a round of batches ahead, so that here as with other subjects a step's
    rows were last touched that long ago.

    Its CPU kernels know SGD, Adagrad and row-wise Adagrad.
    """

    _AHEAD = BATCHES - 1

    _OPTIMIZERS = {
        "SGD": "EXACT_SGD",
        "Adagrad": "EXACT_ADAGRAD",
        "RowWiseAdagrad": "EXACT_ROWWISE_ADAGRAD",
    }
    lazy = True

    def __init__(self, work, inputs):
        if work.optimizer not in self._OPTIMIZERS or work.options:
            raise Unsupported(f"has no {work.label} on a CPU")
        try:
            from fbgemm_gpu import split_table_batched_embeddings_ops_training as tbe
            from fbgemm_gpu.split_embedding_configs import EmbOptimType
        except ImportError as error:
            raise NotInstalled("fbgemm-gpu-cpu") from error
        shapes = inputs.case.shapes
        self._tables = tbe.SplitTableBatchedEmbeddingBagsCodegen(
            [
                (*shape, tbe.EmbeddingLocation.HOST, tbe.ComputeDevice.CPU)
                for shape in shapes
            ],
            optimizer=getattr(EmbOptimType, self._OPTIMIZERS[work.optimizer]),
            learning_rate=LEARNING_RATE,
            eps=work.hyper.get("epsilon", 0.0),
        )
        weights = self._tables.split_embedding_weights()
        for i, weight in enumerate(weights):
            weight.data.copy_(_tensor(inputs.initial(i)))
        for slots in self._tables.split_optimizer_states():
            for slot, value in zip(slots, work.slots.values(), strict=True):
                slot.fill_(value)
        # One id per bag: the gradient has a row for each id, as elsewhere.
        every = range(len(shapes))
        self._gradient = torch.cat([_tensor(inputs.gradient(i)) for i in every], 1)
        self._offsets = torch.arange(len(shapes) * inputs.case.ids + 1)
        self._ids = itertools.cycle(
            torch.from_numpy(np.concatenate([inputs.ids(i)[b] for i in every]))
            for b in range(BATCHES)
        )
        self._outputs = collections.deque()
        for _ in range(self._AHEAD):
            self._forward()

    def _forward(self):
        self._outputs.append(self._tables(next(self._ids), self._offsets))

    def step(self):
        self._forward()
        self._outputs.popleft().backward(self._gradient)

    def seconds(self):
        self._forward()
        output = self._outputs.popleft()
        start = time.perf_counter()
        output.backward(self._gradient)
        return time.perf_counter() - start

    def read(self, i, positions):
        weight = self._tables.split_embedding_weights()[i]
        return weight.detach()[torch.from_numpy(positions)].double().numpy()
