"""The limit: what the memory does with as many bytes in as many streams.

The work is done in C++ (cc/python/limits.h): read every number, change it in the
simplest way, write it back; on dense streams, or on the rows of a step, each
once, somebody else having found the duplicates. The settings that are fastest
on this machine are found before timing.
"""

import itertools

import numpy as np

from tf_optim.benchmark import traffic
from tf_optim.benchmark.cases import BATCHES
from tf_optim.benchmark.subjects import NotInstalled, Subject

_BLOCKS = (256, 1024, 4096, 16384, 65536)  # numbers of a stream, then the next
_DISTANCES = (0, 4, 8, 16, 32)  # rows that are prefetched ahead
_TRIALS = 7


class Limit(Subject):
    """A "subject" that does nothing but move memory."""

    threads = 1  # the worker sets it

    def __init__(self, work, inputs):
        try:
            from tf_optim import _native
        except ImportError as error:
            raise NotInstalled("the compiled library of tf_optim") from error
        case = inputs.case
        if case.kind == "dense":
            self._calls = self._dense(_native, case, work.full_slots)
        else:
            self._calls = self._rows(_native, inputs, work.full_slots)
        self._next = next(iter(self._calls.values()))

    def _dense(self, native, case, slots):
        """One call per block size."""
        item = traffic.item_size(case.dtype)
        floats = case.numbers * item // 4

        def stream(size):
            return np.ones(size, np.float32)

        written = [stream(floats)] + [stream(case.numbers) for _ in range(slots)]
        read = [stream(floats)]
        return {
            block: lambda block=block: native.limit_dense(
                written, read, self.threads, block
            )
            for block in _BLOCKS
        }

    def _rows(self, native, inputs, slots):
        """One call per prefetch distance and order of the ids."""
        shapes = inputs.case.shapes
        first_row = np.cumsum([0] + [rows for rows, _ in shapes])
        dim = shapes[0][1]
        # All tables in one, so that the limit is not split into 26 calls.
        tables = [np.ones((first_row[-1], dim), np.float32) for _ in range(1 + slots)]
        count = len(shapes)
        gradient = np.concatenate([inputs.gradient(i) for i in range(count)])
        batches = [
            np.concatenate(
                [np.unique(inputs.ids(i)[b]) + first_row[i] for i in range(count)]
            )
            for b in range(BATCHES)
        ]
        rng = np.random.default_rng(0)
        orders = {"sorted": batches, "mixed": [rng.permutation(b) for b in batches]}
        turn = itertools.count()  # of all calls together: no batch twice in a row
        calls = {}
        for (order, ids), distance in itertools.product(orders.items(), _DISTANCES):
            calls[order, distance] = lambda ids=ids, distance=distance: (
                native.limit_rows(
                    tables, gradient, ids[next(turn) % BATCHES], self.threads, distance
                )
            )
        return calls

    def bytes_moved(self, work, inputs):
        """What its streams are: no slots of one number per row, no second pass."""
        return traffic.case_bytes(inputs, work.full_slots)

    def tune(self):
        """Keeps the fastest setting, the trials of all of them interleaved."""
        best = dict.fromkeys(self._calls, np.inf)
        for _ in range(_TRIALS):
            for key, call in self._calls.items():
                best[key] = min(best[key], call())
        self._next = self._calls[min(best, key=best.get)]

    def step(self):
        self._next()

    def seconds(self):
        return self._next()  # without the time it takes to wake threads

    def read(self, i, positions):
        raise NotImplementedError("the limit computes nothing")
