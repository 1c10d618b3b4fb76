"""The peak of memory that a step takes beyond variables, slots and gradients.

It is the sum of two, so that no subject can hide anything:

- What the process takes from the system. Free heap pages are returned to it
  (malloc_trim), the process's resident high-water mark is set to its present
  resident size (5 to /proc/self/clear_refs), one step is made, and the size
  before is taken from the mark. The kernel counts pages in per-thread batches:
  figures below about 0.5 MB say no more than "next to nothing".
- What TensorFlow takes from the pool that it keeps and never gives back: the
  peak of its allocator's statistics less what is allocated before the step.
"""

import ctypes
import gc
import sys

_POOL = "CPU:0"


def _status(field):
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def trim():
    """Gives free heap pages back to the system, where the C library can."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _pool_statistics():
    """TensorFlow's tf.config.experimental, or None in a process without it."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow and tensorflow.config.experimental


def extra_mb(step):
    """Peak extra MB (10^6 bytes) of `step()`; None where it cannot be known."""
    trim()
    pool = _pool_statistics()
    try:
        pooled = 0
        if pool:
            pool.reset_memory_stats(_POOL)
            pooled = pool.get_memory_info(_POOL)["current"]
        with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
            refs.write("5")
        resident = _status("VmRSS")
        step()
        taken = max(0, _status("VmHWM") - resident)
        if pool:
            taken += pool.get_memory_info(_POOL)["peak"] - pooled
    except (OSError, ValueError):  # no such file, no such statistics
        return None
    return taken / 1e6


def available_bytes():
    """Memory that can be had without swapping."""
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")
