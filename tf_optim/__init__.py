"""Fused optimizers for TensorFlow: tf.keras' own classes, at the speed of memory.

import tf_optim
model.compile(optimizer=tf_optim.Adam(1e-3), loss="mse")
"""

from tf_optim import library

# A checkout keeps what Bazel built in bazel-bin.
__path__ = [*map(str, library.search_path())]

from tf_optim import optimizers  # noqa: E402
from tf_optim.callbacks import StepStatisticsCallback  # noqa: E402
from tf_optim.conversion import fuse, unfuse  # noqa: E402
from tf_optim.library import build_info  # noqa: E402
from tf_optim.loss_scale import LossScaleOptimizer  # noqa: E402
from tf_optim.optimizers import *  # noqa: E402, F403
from tf_optim.version import __version__  # noqa: E402

# At import, so that a server or a loaded SavedModel finds the ops.
library.ops()

__all__ = [
    *optimizers.__all__,
    "LossScaleOptimizer",
    "StepStatisticsCallback",
    "__version__",
    "build_info",
    "fuse",
    "unfuse",
]
