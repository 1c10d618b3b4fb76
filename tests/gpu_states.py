"""Guarded arrays for the GPU drivers: on a GPU, or for their emulation on the CPU.

The environment variable TF_OPTIM_GPU_LIBRARY names the _gpu.so to be tested
(tests/gpu_check.py sets it); without it, it is Bazel's own. Its kernels run on the GPU
where it has any and there is one, the emulation elsewhere.
"""

import os

import numpy as np

from tests import gpu_library, guarded
from tests.guarded import GUARD, MARGIN

LEARNING_RATE = 0.03
ITERATIONS = 4

_LIBRARY = os.environ.get("TF_OPTIM_GPU_LIBRARY")

if _LIBRARY:
    gpu = gpu_library.Library(_LIBRARY)
else:
    from tf_optim import library

    gpu = gpu_library.Library(library.find("_gpu.so"))

# Also where Bazel's build has the kernels, and the machine can run them.
ON_GPU = gpu.has_cuda and (bool(_LIBRARY) or not gpu.state())
if ON_GPU:
    gpu.use_device()


def _backend():
    """`(to device, to host, wait)` for arrays of bytes."""
    if not ON_GPU:
        return np.copy, np.asarray, lambda: None
    try:
        import torch
    except ImportError:
        import cupy

        wait = cupy.cuda.runtime.deviceSynchronize
        return cupy.asarray, cupy.asnumpy, wait
    return (
        lambda raw: torch.from_numpy(raw).cuda(),
        lambda raw: raw.cpu().numpy(),
        torch.cuda.synchronize,
    )


to_device, to_host, wait = _backend()


class Guarded:
    """An array at a chosen misalignment, with guard bytes on both sides."""

    def __init__(self, values, offset=0):
        values = np.ascontiguousarray(values)
        self.dtype, self.shape, self.size = values.dtype, values.shape, values.size
        length = values.nbytes + 2 * MARGIN + 256
        bare = to_device(np.full(length, GUARD, np.uint8))
        # The memory's own address decides where the array is aligned.
        self._first = -gpu_library.address(bare) % 64 + MARGIN
        self._first += offset * values.itemsize
        self._last = self._first + values.nbytes
        raw = to_host(bare).copy()
        raw[self._first : self._last] = np.frombuffer(values.tobytes(), np.uint8)
        bare[:] = to_device(raw)
        self.raw = bare

    def data_ptr(self):
        return gpu_library.address(self.raw) + self._first

    @property
    def array(self):
        """Its values now, on the host."""
        inside = to_host(self.raw)[self._first : self._last].copy()
        return inside.view(self.dtype).reshape(self.shape)

    def intact(self):
        raw = to_host(self.raw)
        outside = np.concatenate([raw[: self._first], raw[self._last :]])
        return bool((outside == GUARD).all())


class State(guarded.State):
    guarded = Guarded


def step(
    case,
    states,
    *,
    learning_rate=LEARNING_RATE,
    learning_rate_dtype="float64",
    iterations=ITERATIONS,
    clip_value=0.0,
    gradient_scale=None,
    weight_decay=None,
    **options,
):
    """One step of all the states, in one call; checks that only they were written."""
    indices = [s.indices for s in states if s.indices is not None]
    rate = Guarded(np.array(learning_rate, learning_rate_dtype))
    done = Guarded(np.array(iterations, "int64"))
    scale = None if gradient_scale is None else Guarded(np.float64(gradient_scale))
    decay = None if weight_decay is None else Guarded(np.float64(weight_decay))
    hyper = case.op_hyper(iterations)
    gpu.apply(
        case.rule,
        [s.var for s in states],
        {slot.name: [s.slots[slot.name] for s in states] for slot in case.slots},
        [s.grad for s in states],
        {name: Guarded(np.float64(value)) for name, value in hyper.items()},
        rate,
        done,
        Guarded(np.float64(clip_value)),
        indices=indices or None,
        flags=case.flags,
        gradient_scale=scale,
        weight_decay=decay,
        cuda=ON_GPU,
        **options,
    )
    wait()
    for state in states:
        assert all(guard.intact() for guard in state.guards())
