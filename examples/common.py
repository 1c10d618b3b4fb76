"""What the three examples share: arguments, the clock, the wire and the table."""

import argparse
import dataclasses
import os
import time

from examples import recommender

QUICK = {"rows": 20_000, "batch": 128, "steps": 8}


def parse(doc, **counts):
    """The command line's `Settings`, and the other options.

    Args:
        doc: the program's description.
        **counts: options that are numbers of processes or devices, with defaults.
    """
    parser = argparse.ArgumentParser(description=doc)
    defaults = recommender.Settings()
    for field in dataclasses.fields(recommender.Settings):
        value = getattr(defaults, field.name)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=str if value is None else type(value),
            help=f"default: {value}",
        )
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--optimizer", default="Adam", help="default: %(default)s")
    which = ["stock", "ours", "exact"]
    parser.add_argument("--only", choices=which, help="default: all of them")
    parser.add_argument(
        "--quick", action="store_true", help=f"small: {QUICK}, where not given"
    )
    options = vars(parser.parse_args())
    fields = {f.name for f in dataclasses.fields(recommender.Settings)}
    given = {k: options.pop(k) for k in fields}
    given = {k: v for k, v in given.items() if v is not None}
    quick = QUICK if options.pop("quick") else {}
    settings = recommender.Settings(**{**quick, **given})
    return settings, argparse.Namespace(**options)


def quiet():
    """Before TensorFlow is imported: no log lines, no GPUs, threads enough."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Replicas on one CPU wait for each other in these; two cores give two.
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "8")


def loopback_bytes():
    """Bytes sent over this machine's loopback so far, by anybody; Linux only."""
    with open("/proc/net/dev") as lines:
        (line,) = [line for line in lines if line.strip().startswith("lo:")]
    return int(line.split(":")[1].split()[8])


def peak_memory(process):
    """The most bytes of memory that a process has had; Linux only."""
    with open(f"/proc/{process}/status") as lines:
        (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


@dataclasses.dataclass
class Run:
    """What one optimizer did.

    Attributes:
        name: the optimizer.
        seconds: for all timed steps.
        steps: how many these were.
        sent: bytes over loopback meanwhile, or None where nothing is sent.
        losses: first and last, each the mean of up to five steps.
    """

    name: str
    seconds: float
    steps: int
    sent: int | None
    losses: tuple


def optimizers(options, learning_rate):
    """(what to call it, a function that makes it) of stock, ours, and ours exact."""
    import tensorflow as tf

    import tf_optim

    name = options.optimizer
    stock = f"Keras {tf.keras.__version__}" if hasattr(tf.keras, "ops") else "tf_keras"
    made = {
        "stock": (f"{stock} {name}", tf.keras.optimizers, {}),
        "ours": (f"tf_optim.{name}", tf_optim, {}),
        "exact": (f"tf_optim.{name}, exact", tf_optim, {"sparse_update": "exact"}),
    }
    if getattr(tf_optim, name)._spec.needs_whole_table:
        del made["exact"]
    for which, (title, module, arguments) in made.items():
        if options.only in (None, which):
            make = getattr(module, name)
            yield title, lambda m=make, a=arguments: m(learning_rate, **a)


def timed(name, settings, take_steps, on_the_wire=True, progress=True):
    """Takes the steps of one optimizer, with a progress bar.

    Args:
        name: what to call it.
        settings: the `Settings`.
        take_steps: called with a range of step numbers, yields a loss for each.
        on_the_wire: whether to count what goes over loopback.
        progress: whether to show the bar; of several workers one does.

    Returns:
        The `Run`.
    """
    import tqdm

    list(take_steps(range(settings.warm_up)))  # traces
    steps = range(settings.warm_up, settings.warm_up + settings.steps)
    sent = loopback_bytes() if on_the_wire else 0
    began = time.perf_counter()
    bar = tqdm.tqdm(
        take_steps(steps), name, settings.steps, unit="step", disable=not progress
    )
    losses = [float(loss) for loss in bar]
    seconds = time.perf_counter() - began
    few = min(5, len(losses))
    return Run(
        name,
        seconds,
        settings.steps,
        loopback_bytes() - sent if on_the_wire else None,
        (sum(losses[:few]) / few, sum(losses[-few:]) / few),
    )


def show(title, settings, runs, expected=None, unit="steps/s"):
    """Prints the table.

    Args:
        title: what was trained on what.
        settings: the `Settings`.
        runs: the `Run`s, stock first.
        expected: bytes per step that the cost model gives, or None.
        unit: the unit of the speed.
    """
    from tf_optim.demo import report

    rows = []
    for run in runs:
        rate = run.steps / run.seconds
        sent = "-" if run.sent is None else f"{run.sent / run.steps / 1e6:.3f}"
        rows.append(
            [
                run.name,
                f"{rate:.2f}",
                f"{rate * runs[0].seconds / runs[0].steps:.1f}x",
                sent,
                f"{run.losses[0]:.3f}",
                f"{run.losses[1]:.3f}",
            ]
        )
    header = ["optimizer", unit, "faster", "MB per step", "first loss", "last loss"]
    print(f"\n{title}\n{'=' * len(title)}")
    print(
        f"Two tables of {settings.rows:,} x {settings.dim}, {settings.batch:,} pairs "
        f"per worker and step, "
        + (f"from {settings.log}" if settings.log else f"Zipf({settings.zipf:g}) ids")
        + f", {settings.steps} steps.\n"
    )
    print(report.table(header, rows))
    if expected is not None:
        print(
            f"\nMB per step is what went over this machine's loopback, measured; the "
            f"cost model of docs/distributed.md gives {expected / 1e6:.3f}."
        )


def bytes_of_a_step(settings):
    """What a worker's step needs, by kind.

    Returns:
        The bytes of its batch's ids, of the ids that differ, of their rows, and of
        the dense layers.
    """
    distinct = recommender.Pairs(settings).distinct()
    row, layer = 4 * settings.dim, 4 * settings.dim * 2 * settings.dim
    return 2 * 8 * settings.batch, 8 * distinct, row * distinct, 4 * layer
