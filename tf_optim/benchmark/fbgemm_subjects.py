"""FBGEMM's table-batched embeddings, whose backward pass is the update.

The forward pass comes just before each step, as in training, and is not timed.
"""

import itertools

import numpy as np

from tf_optim.benchmark.subjects import NotInstalled, Subject, Unsupported
from tf_optim.benchmark.torch_subjects import tensor, torch
from tf_optim.benchmark.work import LEARNING_RATE

# FBGEMM's name, and that of the op; its CPU kernels know these.
_OPTIMIZERS = {
    "SGD": ("EXACT_SGD", "sgd"),
    "Adagrad": ("EXACT_ADAGRAD", "adagrad"),
    "RowWiseAdagrad": ("EXACT_ROWWISE_ADAGRAD", "rowwise_adagrad"),
}


class Backward(Subject):
    """A call of autograd. Ids are not pooled: the gradient has a row for each."""

    lazy = True

    def __init__(self, work, inputs):
        if work.optimizer not in _OPTIMIZERS or work.options:
            raise Unsupported(f"has no {work.label} on a CPU")
        try:
            from fbgemm_gpu import split_table_batched_embeddings_ops_training as tbe
            from fbgemm_gpu.split_embedding_configs import EmbOptimType
        except ImportError as error:
            raise NotInstalled("fbgemm-gpu-cpu") from error
        shapes = inputs.case.shapes
        name, self._op = _OPTIMIZERS[work.optimizer]
        self._epsilon = work.hyper.get("epsilon", 0.0)
        self._tables = tbe.SplitTableBatchedEmbeddingBagsCodegen(
            [
                (*shape, tbe.EmbeddingLocation.HOST, tbe.ComputeDevice.CPU)
                for shape in shapes
            ],
            optimizer=getattr(EmbOptimType, name),
            learning_rate=LEARNING_RATE,
            eps=self._epsilon,
            pooling_mode=tbe.PoolingMode.NONE,
        )
        weights = self._tables.split_embedding_weights()
        for i, weight in enumerate(weights):
            weight.data.copy_(tensor(inputs.initial(i)))
        for slots in self._tables.split_optimizer_states():
            for slot, value in zip(slots, work.slots.values(), strict=True):
                slot.fill_(value)
        every = range(len(shapes))
        self._gradient = torch.cat([tensor(inputs.gradient(i)) for i in every])
        self._offsets = torch.arange(len(shapes) * inputs.case.ids + 1)
        self._batches = itertools.cycle(
            torch.from_numpy(np.concatenate([inputs.ids(i)[b] for i in every]))
            for b in range(inputs.case.batches)
        )

    def before(self):
        self._ids = next(self._batches)
        self._output = self._tables(self._ids, self._offsets)

    def step(self):
        self._output.backward(self._gradient)

    def read(self, i, positions):
        weight = self._tables.split_embedding_weights()[i]
        return weight.detach()[torch.from_numpy(positions)].double().numpy()


class Op(Backward):
    """The op that autograd would call, called without it."""

    def __init__(self, work, inputs):
        super().__init__(work, inputs)
        tables, every = self._tables, range(len(inputs.case.shapes))
        name = f"split_embedding_backward_codegen_{self._op}_cpu"
        op = getattr(torch.ops.fbgemm, name)
        common = {
            # One bag for each id, as the op has it: columns of tables side by side.
            "grad_output": torch.cat([tensor(inputs.gradient(i)) for i in every], 1),
            "host_weights": tables.weights_host,
            "weights_placements": tables.weights_placements,
            "weights_offsets": tables.weights_offsets,
            "D_offsets": tables.D_offsets,
            "max_D": tables.max_D,
            "hash_size_cumsum": tables.hash_size_cumsum,
            "total_hash_size_bits": tables.total_hash_size_bits,
            "pooling_mode": 0,
            "indice_weights": torch.empty(0),
            "stochastic_rounding": False,
            "learning_rate_tensor": torch.tensor(LEARNING_RATE),
        }
        if self._op != "sgd":
            common |= {
                "momentum1_host": tables.momentum1_host,
                "momentum1_placements": tables.momentum1_placements,
                "momentum1_offsets": tables.momentum1_offsets,
                "eps": self._epsilon,
            }
        self._call = lambda ids: op(indices=ids, offsets=self._offsets, **common)

    def step(self):
        with torch.no_grad():
            self._call(self._ids)
