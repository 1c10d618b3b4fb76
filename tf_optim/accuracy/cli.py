"""Trains each task with each way of keeping slots, and compares the losses."""

import argparse
import json
import os
import sys
import time

import numpy as np

from tf_optim.demo import cli as demo

# name -> the optimizer's arguments
POLICIES = {
    "float32": {},
    "bfloat16": {"slot_dtype": "bfloat16"},
    "int8": {"slot_dtype": "int8"},
    "bfloat16, to nearest": {"slot_dtype": "bfloat16", "stochastic_rounding": False},
    "int8, to nearest": {"slot_dtype": "int8", "stochastic_rounding": False},
}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = argparse.ArgumentParser(
        prog="python -m tf_optim.accuracy",
        description="Trains small models by Adam with slots in float32, bfloat16 and 8 "
        "bits, from several starts, and compares the losses at the end. About five "
        "minutes on two cores.",
    )
    result.add_argument("--quick", action="store_true", help="a few steps: does it run")
    result.add_argument(
        "--seeds", type=int, default=3, help="starts per training (default: 3)"
    )
    result.add_argument("--json", help="where to write the losses")
    result.add_argument(
        "--plot", default="accuracy.png", help="where to draw them (%(default)s)"
    )
    return result


def main(arguments=None) -> int:
    """Runs the command; returns the exit status."""
    options = parser().parse_args(arguments)
    if options.seeds < 1:
        sys.exit(f"--seeds: expected at least 1. Received: {options.seeds}")
    demo.require(["matplotlib", "sklearn", "tqdm"], "This command")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    began = time.perf_counter()

    import tqdm

    from tf_optim.accuracy import tasks

    chosen = tasks.all_tasks(options.quick)
    total = sum(task.steps for task in chosen) * len(POLICIES) * options.seeds
    with tqdm.tqdm(total=total, unit="step") as bar:
        losses = {
            task.name: {
                policy: [
                    _loss(task, policy, seed, bar) for seed in range(options.seeds)
                ]
                for policy in POLICIES
            }
            for task in chosen
        }
    print(table(losses))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(losses, file, indent=1)
    plot(losses, options.plot)
    print(f"\nLosses: {os.path.abspath(options.plot)}")
    print(f"The whole took {time.perf_counter() - began:.0f} s.")
    return 0


def _loss(task, policy, seed, bar):
    import tf_optim

    bar.set_description(f"{task.name}, {policy}")
    optimizer = tf_optim.Adam(task.learning_rate, **POLICIES[policy])
    return task.run(optimizer, seed, bar.update)


def table(losses) -> str:
    """Markdown: the mean of the losses, their spread, and the mean beside float32's."""
    lines = ["| slots | " + " | ".join(losses) + " |", "|---" * (len(losses) + 1) + "|"]
    for policy in POLICIES:
        cells = []
        for of_task in losses.values():
            values, others = np.array(of_task[policy]), np.array(of_task["float32"])
            beside = (values / others).mean() - 1
            cell = f"{values.mean():.4f} ± {values.std():.4f}"
            cells.append(cell if policy == "float32" else f"{cell} ({beside:+.2%})")
        lines.append(f"| {policy} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(losses, path):
    """Draws each start's loss beside that of float32 from the same start."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(losses), figsize=(3.2 * len(losses) + 1.6, 3.6), squeeze=False
    )
    names = list(POLICIES)[1:]
    for axes, (task, of_task) in zip(panels[0], losses.items(), strict=True):
        base = np.array(of_task["float32"])
        axes.axhspan(-1, 1, color="#e8f0fe", label="within 1 %")
        for i, policy in enumerate(names):
            change = 100 * (np.array(of_task[policy]) / base - 1)
            color = "#9aa0a6" if "nearest" in policy else "#1a73e8"
            axes.plot([i] * len(change), change, "o", color=color)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
        axes.set_title(task, fontsize=10)
        axes.set_ylabel("loss, % from float32 slots")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
