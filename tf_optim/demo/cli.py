"""The command line of the demo."""

import argparse
import importlib.metadata
import importlib.util
import os
import sys
import time

_PARTS = ("digits", "skipgram")


def _positive(value):
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1. Received: {value}.")
    return number


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the demo's arguments."""
    result = argparse.ArgumentParser(
        prog="python -m tf_optim.demo",
        description="Trains on real data with the optimizers of stock Keras and with "
        "those of tf_optim, from the same start and on the same batches, and compares "
        "speed and loss. Set TF_USE_LEGACY_KERAS=1 to compare with tf_keras.",
    )
    result.add_argument(
        "--part",
        choices=[*_PARTS, "all"],
        default="all",
        help="digits: a dense network and RMSprop. skipgram: word embeddings with "
        "sparse gradients and Adam (default: %(default)s)",
    )
    result.add_argument(
        "--mnist",
        metavar="FILE.npz",
        help="train on the full MNIST (Keras' mnist.npz) instead of the small set of "
        "digits that scikit-learn brings along",
    )
    result.add_argument(
        "--steps",
        type=_positive,
        default=600,
        metavar="N",
        help="skipgram: steps that all optimizers take side by side; afterwards ours "
        "goes on for as long as stock took, 30 s at most (default: %(default)s)",
    )
    result.add_argument(
        "--learning-rate",
        type=float,
        default=0.02,
        metavar="RATE",
        help="skipgram: the learning rate of all optimizers (default: %(default)s)",
    )
    result.add_argument(
        "--plot",
        default="tf_optim_demo.png",
        metavar="FILE.png",
        help="where to draw loss against time (default: %(default)s)",
    )
    return result


def require(modules, what="The demo"):
    """Ends the program if a module is missing.

    Args:
      modules: Names of modules.
      what: Who needs them.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"{what} needs {', '.join(missing)}, not found in this Python. "
            "Install with: pip install 'tf_optim[demo]'"
        )


def main(arguments=None) -> int:
    """Runs the demo; returns the exit status."""
    options = parser().parse_args(arguments)
    mnist, plot = options.mnist, os.path.abspath(options.plot)
    # Said now, not after minutes of training.
    if mnist and not os.path.isfile(mnist):
        sys.exit(f"--mnist: expected an .npz file. Received: {mnist}")
    if not os.access(os.path.dirname(plot), os.W_OK):
        sys.exit(f"--plot: expected a file in a folder to write to. Received: {plot}")
    require(["matplotlib", "sklearn", "tqdm"])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    began = time.perf_counter()

    import tensorflow as tf
    import tqdm

    from tf_optim.demo import digits, report, skipgram

    if hasattr(tf.keras, "__version__"):
        stock = f"Keras {tf.keras.__version__}"
    else:
        stock = f"tf_keras {importlib.metadata.version('tf_keras')}"
    print(
        f"TensorFlow {tf.__version__}, {stock}, {os.cpu_count()} CPU cores", flush=True
    )
    parts = []
    if options.part in ("digits", "all"):
        parts.append(digits.run(tqdm.tqdm, stock, mnist))
    if options.part in ("skipgram", "all"):
        settings = skipgram.Settings(options.steps, options.learning_rate)
        parts.append(skipgram.run(tqdm.tqdm, stock, settings))
    for part in parts:
        print(f"\n{report.text(part)}")
    report.plot(parts, plot)
    seconds = time.perf_counter() - began
    print(f"\nLoss against time: {plot}")
    print(f"The whole demo took {seconds:.0f} s.")
    return 0
