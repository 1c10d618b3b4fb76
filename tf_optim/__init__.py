"""Fused optimizers for TensorFlow: tf.keras' own classes, at the speed of memory.

import tf_optim
model.compile(optimizer=tf_optim.Adam(1e-3), loss="mse")
"""

from tf_optim import runner

# `python -m tf_optim` leaves it to the program that it runs when TensorFlow comes.
if not runner.is_command():
    from tf_optim import library

    # A checkout keeps what Bazel built in bazel-bin.
    __path__ = [*map(str, library.search_path())]

    library.check()  # before anything that another TensorFlow may lack

    from tf_optim import optimizers
    from tf_optim.averaging import Lookahead, StochasticWeightAveraging
    from tf_optim.callbacks import StepStatisticsCallback
    from tf_optim.conversion import fuse, unfuse
    from tf_optim.embedding import Embedding, lookup, prepare, unprepare
    from tf_optim.explanation import explain
    from tf_optim.huge_pages import use_huge_pages
    from tf_optim.library import build_info
    from tf_optim.loss_scale import LossScaleOptimizer
    from tf_optim.memory import memory_report
    from tf_optim.multi import MultiOptimizer
    from tf_optim.optimizers import *  # noqa: F403
    from tf_optim.replacement import patch_keras, unpatch_keras
    from tf_optim.version import __version__

    # At import, so that a server or a loaded SavedModel finds the ops.
    library.ops()

    __all__ = [
        "Embedding",
        "Lookahead",
        "LossScaleOptimizer",
        "MultiOptimizer",
        "StepStatisticsCallback",
        "StochasticWeightAveraging",
        "__version__",
        "build_info",
        "explain",
        "fuse",
        "lookup",
        "memory_report",
        "patch_keras",
        "prepare",
        "unfuse",
        "unpatch_keras",
        "unprepare",
        "use_huge_pages",
    ]
    __all__ += optimizers.__all__
