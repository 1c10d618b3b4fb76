"""The limit: what the memory does with the same bytes in the same places.

The work is done in C++ (cc/python/limits.h): read every number, change it in the
simplest way, write it back; on arrays of the variables' own sizes, or on the rows
of a step, each once, somebody else having found the duplicates, with the cache
line of a slot of one number per row. Several steps are made in one call. Where a
rule must see a whole variable before it changes it (Lamb), in two passes, the
second one backwards so that it finds in a cache what the first has touched last.
The settings that are fastest on this machine are found before timing.
"""

import itertools

import numpy as np

from tf_optim.benchmark import traffic
from tf_optim.benchmark.subjects import NotInstalled, Subject, passes

_BLOCKS = (256, 1024, 4096, 16384, 65536)  # numbers of a stream, then the next
_AHEAD = (0, 512, 2048)  # numbers of a stream that are prefetched ahead
_DISTANCES = (0, 4, 8, 16, 32)  # rows that are prefetched ahead
_TRIALS = 7
_CALL = 0.03  # seconds of steps that one call makes, as TensorFlow's loops
_MOST_STEPS = 4096


def ones(*shape):
    """float32 at the start of a cache line, as TensorFlow's and torch's are.

    NumPy's own begin 16 bytes behind: each of their rows would touch a line more.
    """
    count = int(np.prod(shape))
    spare = traffic.LINE // 4
    array = np.ones(count + spare, np.float32)
    first = -array.ctypes.data % traffic.LINE // 4
    return array[first : first + count].reshape(shape)


class Limit(Subject):
    """A "subject" that does nothing but move memory."""

    threads = 1  # the worker sets it

    def __init__(self, work, inputs):
        try:
            from tf_optim import _native
        except ImportError as error:
            raise NotInstalled("the compiled library of tf_optim") from error
        self._native = _native
        self._work, self._inputs = work, inputs
        self._passes = passes(work)
        case = inputs.case
        named = set(case.tables)
        dense = [i for i in range(len(case.shapes)) if i not in named]
        # name -> setting -> the seconds of so many steps
        self._parts = {}
        if dense:
            self._parts["dense"] = self._dense(dense)
        if named:
            self._parts["rows"] = self._rows(case.tables)
        self._setting = {name: next(iter(part)) for name, part in self._parts.items()}
        self._steps = 1

    def _dense(self, variables):
        """One call per block size and prefetch distance."""
        case, slots = self._inputs.case, self._work.full_slots
        arrays = {}
        for i in variables:
            numbers = int(np.prod(case.shapes[i]))
            # 16-bit numbers go as half as many float32.
            floats = -(-numbers * traffic.item_size(case.dtype_of(i)) // 4)
            kept = [ones(numbers) for _ in range(slots)]
            kept_rows = max(1, case.shapes[i][0] if case.shapes[i] else 1)
            kept += [ones(kept_rows) for _ in self._work.row_slots]
            arrays[i] = ones(floats), ones(floats), kept
        if self._passes == 1:
            every = [([var, *kept], [grad]) for var, grad, kept in arrays.values()]
            made = [(False, every)]
        else:
            made = []
            for group in traffic.cached_together(case, variables, slots):
                chosen = [arrays[i] for i in group]
                first = [(kept, [var, grad]) for var, grad, kept in chosen]
                second = [([var], kept) for var, _, kept in chosen]
                made += [(False, first), (True, second)]

        def call(block, ahead, steps):
            return self._native.limit_dense(made, self.threads, block, steps, ahead)

        return {
            (block, ahead): lambda steps, block=block, ahead=ahead: call(
                block, ahead, steps
            )
            for block, ahead in itertools.product(_BLOCKS, _AHEAD)
        }

    def _rows(self, variables):
        """One call per prefetch distance and order of the ids."""
        inputs, slots = self._inputs, self._work.full_slots
        case = inputs.case
        tables = {}
        for i in variables:
            rows, dim = case.shapes[i][0], int(np.prod(case.shapes[i][1:]))
            floats = -(-dim * traffic.item_size(case.dtype_of(i)) // 4)
            var, grad = ones(rows, floats), ones(case.ids_of(i), floats)
            if self._passes == 1 and floats == dim:
                kept = [ones(rows, dim) for _ in range(slots)]
                kept_rows = [ones(rows) for _ in self._work.row_slots]
                tables[i] = [([var, *kept], [], kept_rows, grad)]
            elif self._passes == 1:  # rows of two widths
                kept = [ones(rows, dim) for _ in range(slots)]
                kept_rows = [ones(rows) for _ in self._work.row_slots]
                tables[i] = [([var], [], kept_rows, grad)]
                if kept:
                    tables[i].append((kept, [], [], ones(0, dim)))
            else:
                kept = [ones(rows, floats) for _ in range(slots)]
                none = grad[:0]
                tables[i] = [(kept, [var], [], grad), ([var], kept, [], none)]
        rng = np.random.default_rng(0)
        once = {i: [np.unique(batch) for batch in inputs.ids(i)] for i in variables}
        orders = {
            "sorted": once,
            "mixed": {i: [rng.permutation(b) for b in once[i]] for i in variables},
        }
        turn = itertools.count()  # of all calls together: no batch twice in a row

        def step(ids_of):
            """The passes of the next step."""
            batch = next(turn) % case.batches
            if self._passes == 1:
                return [
                    [
                        (*part, ids_of[i][batch])
                        for i, parts in tables.items()
                        for part in parts
                    ]
                ]
            ids = {i: ids_of[i][batch] for i in tables}
            back = {i: np.ascontiguousarray(ids[i][::-1]) for i in tables}
            return [
                [(*tables[i][0], ids[i]) for i in tables],
                [(*tables[i][1], back[i]) for i in reversed(list(tables))],
            ]

        def call(order, distance, steps):
            every = [made for _ in range(steps) for made in step(orders[order])]
            return self._native.limit_rows(every, self.threads, distance)

        return {
            (order, distance): lambda steps, order=order, distance=distance: call(
                order, distance, steps
            )
            for order, distance in itertools.product(orders, _DISTANCES)
        }

    def tune(self):
        """Keeps the fastest settings, the trials of all of them interleaved."""
        for name, part in self._parts.items():
            best = dict.fromkeys(part, np.inf)
            for _ in range(_TRIALS):
                for key, call in part.items():
                    best[key] = min(best[key], call(1))
            self._setting[name] = min(best, key=best.get)
        self._steps = 1
        while self._steps < _MOST_STEPS and self._make(self._steps) < _CALL:
            self._steps *= 2

    def _make(self, steps):
        """The seconds of `steps` steps, without the time it takes to wake threads."""
        return sum(
            part[self._setting[name]](steps) for name, part in self._parts.items()
        )

    def step(self):
        self._make(1)

    def seconds(self):
        return self._make(self._steps) / self._steps

    def read(self, i, positions):
        raise NotImplementedError("the limit computes nothing")
