"""What all tests share. Must run before anything imports TensorFlow."""

import os
import pathlib
import sys

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests of rounding compare with kernels that say what they do.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

pytest_plugins = ["tests.flavours", "tests.covering", "tests.order"]


def pytest_addoption(parser):
    parser.addoption(
        "--gpu",
        action="store_true",
        help="let the tests see GPUs: tests/gpu_*_test.py are for one.",
    )


def pytest_configure(config):
    from tests import flavours

    if config.getoption("gpu"):
        # Several processes share one.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    else:
        # Most tests are of steps on a CPU, whose checks come before the step, and of
        # CPU devices. On a machine with a GPU variables would be there.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

    if not flavours.IS_CHILD and not config.getoption("exhaustive"):
        # Most of a test under XLA is LLVM at work on code that runs once.
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    if not config.getoption("exhaustive"):
        _import_less()


def _import_less():
    """Here, and in the processes that tests start."""
    from tests.lean import sitecustomize

    folder = str(pathlib.Path(sitecustomize.__file__).parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, paths)])


@pytest.fixture(autouse=True)
def stock_is_stock():
    """A test that leaves ours in Keras' place would have later ones compare ours."""
    yield
    replacement = sys.modules.get("tf_optim.replacement")
    left = list(replacement._patch.constructors) if replacement else []
    if left:
        replacement.unpatch_keras()
    assert not left, "the test has to call unpatch_keras()"
