"""Finds and loads what Bazel built: the ops library and the native module."""

from __future__ import annotations

import ctypes
import functools
import importlib
import pathlib
import sys
import warnings
from typing import Any

from tf_optim.version import __version__

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError(
        "tf_optim needs TensorFlow. Received: a Python without it. Install the one "
        "that `pip show tf_optim` requires.",
        name="tensorflow",
    ) from None

OPS_LIBRARY = "_tf_optim_ops.so"
XLA_LIBRARY = "_tf_optim_xla.so"
REBUILD = (
    "Rebuild tf_optim for it: `pip install --force-reinstall --no-deps .` in its "
    "source folder (or `./configure.sh && bazel build //...` to use it there)."
)

_PACKAGE = pathlib.Path(__file__).resolve().parent


def search_path():
    """The folders that may hold the built files, an installed one first."""
    return [_PACKAGE, _PACKAGE.parent / "bazel-bin"]


def find(name):
    """The path of a built file.

    Raises:
        ImportError: if there is none.
    """
    for folder in search_path():
        if (folder / name).exists():
            return folder / name
    places = " or ".join(str(folder) for folder in search_path())
    raise ImportError(
        f"tf_optim is not built: {name} must be in {places}. Received: no such "
        f"file. {REBUILD}"
    )


@functools.cache
def native():
    """The pybind11 module: build facts, and the kernels on NumPy arrays."""
    path = find("_native.so")
    try:
        return importlib.import_module("tf_optim._native")
    except ImportError as error:
        running = ".".join(map(str, sys.version_info[:2]))
        raise ImportError(
            f"{path} could not be loaded by Python {running}: it must be built for "
            f"this Python and this system. Received: {error}. {REBUILD}"
        ) from error


def check_tensorflow_version(built_for, running):
    """Raises ImportError unless both are of one minor version."""
    if built_for.split(".")[:2] != running.split(".")[:2]:
        minor, wanted = (".".join(v.split(".")[:2]) for v in (built_for, running))
        raise ImportError(
            f"tf_optim was built for TensorFlow {built_for}, whose C++ interface "
            f"differs from that of other minor versions. Received: TensorFlow "
            f"{running}. Install the wheel for it, "
            f"`pip install 'tf_optim=={__version__}+tf{wanted}'`, or the other "
            f"TensorFlow, `pip install 'tensorflow=={minor}.*'`. {REBUILD}"
        )


def check():
    """Raises ImportError unless the package is built for this TensorFlow and Python."""
    check_tensorflow_version(native().build_info()["tensorflow"], tf.__version__)


@functools.cache
def ops():
    """The module of the package's raw ops, loaded once.

    Raises:
        ImportError: if it is not built, or built for another TensorFlow.
    """
    check()
    path = find(OPS_LIBRARY)
    try:
        module = tf.load_op_library(str(path))
    except (OSError, tf.errors.OpError) as error:
        raise ImportError(
            f"{path} could not be loaded by TensorFlow {tf.__version__}: it must be "
            f"built for this TensorFlow. Received: {error}. {REBUILD}"
        ) from error
    xla_error()
    if state := gpu_state():
        if tf.config.list_physical_devices("GPU"):
            warnings.warn(
                f"tf_optim's steps on a GPU will fail. {state} Variables on the CPU "
                f"(`with tf.device('CPU'):`) train as ever.",
                RuntimeWarning,
                stacklevel=2,
            )
    elif native().build_info()["cuda"]:
        lend_gpu_kernels()
    return module


@functools.cache
def gpu_state():
    """Why the build's GPU kernels cannot run on this machine; "" if they can.

    A build without any has nothing to say.
    """
    if not native().build_info()["cuda"]:
        return ""
    state = ctypes.CDLL(str(find(OPS_LIBRARY))).tf_optim_gpu_state
    state.restype = ctypes.c_char_p
    return state().decode()


def lend_gpu_kernels():
    """Under XLA a GPU's steps are calls of the ops library's kernels."""
    if xla_error() is None:
        kernels = ctypes.CDLL(str(find(OPS_LIBRARY))).tf_optim_gpu_kernels
        lend_to_xla(ctypes.cast(kernels, ctypes.c_void_p).value, emulated=False)


def lend_to_xla(kernels, emulated):
    """Makes XLA's steps calls of GPU kernels: UseGpuKernels of cc/xla/gpu_call.h."""
    use = ctypes.CDLL(str(find(XLA_LIBRARY))).tf_optim_use_gpu_kernels
    use.argtypes = (ctypes.c_void_p, ctypes.c_int)
    use.restype = None
    use(kernels, emulated)


@functools.cache
def xla_error():
    """Loads what `jit_compile=True` needs; why that failed, or None.

    Everything but `jit_compile=True` works without it.
    """
    try:
        tf.load_library(str(find(XLA_LIBRARY)))
    except (ImportError, OSError, tf.errors.OpError) as error:
        return str(error)
    return None


def build_info() -> dict[str, Any]:
    """Facts about this build, as a dict.

    Keys: `tf_optim` (version), `tensorflow` (the version built for), `compiler`,
    `cuda` (whether GPU kernels are in it), `gpu` (where they are: "ready", or why
    this machine's driver or card cannot run them), `isa` (the instruction set in
    use on this machine; the environment variable `TF_OPTIM_ISA` can name another),
    and `isas` (those it can run).
    """
    facts = {"tf_optim": __version__, **native().build_info()}
    if facts["cuda"]:
        ops()  # the library that knows
        facts["gpu"] = gpu_state() or "ready"
    return facts
