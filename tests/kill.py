"""Kills training with SIGKILL, again and again, and looks at what comes of it.

    python -m tests.kill --count 100 [--seed S]

Each course of training (`tests.kill_trainer`) is killed a few times in each way of
saving; its results must have the bits of training that was not killed.
"""

import argparse
import collections
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
WAYS = ("fit", "manager", "keras")
SPINS = 10**6  # at most, from the last line that was read to the kill


class Ended(Exception):
    """A trainer that ended by itself, and not well."""


def moments(rng, kills, lines):
    """Where to kill: `(way, line, spins)`, in the order of the ways.

    Args:
      rng: a NumPy generator.
      kills: how often in each way.
      lines: way -> how many lines a whole training says.
    """
    for way in WAYS:
        # Places in the work of one training, so that each is reached.
        places = sorted(rng.choice(np.arange(1, lines[way]), size=kills, replace=False))
        for line in np.diff([0, *places]):
            yield way, int(line), int(SPINS ** rng.uniform())


def trainer(folder, environment, errors):
    """Starts a trainer."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kill_trainer", str(folder)],
        cwd=ROOT,
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
    )


def run(folder, environment=(), moment=None):
    """Runs a trainer until it ends or, at the moment, is killed.

    Returns:
      `(whether it was killed, the lines that it said)`.

    Raises:
      Ended: if it fails.
    """
    way, count, spins = moment or (None, 0, 0)
    prefix, said = f"{way} ".encode(), []
    with tempfile.TemporaryFile() as errors:
        with trainer(folder, dict(environment), errors) as child:
            for line in child.stdout:
                said.append(line)
                count -= line.startswith(prefix)
                if moment and count == 0:
                    while spins:
                        spins -= 1
                    child.kill()
                    moment = None
        if child.returncode == -signal.SIGKILL:
            return True, said
        errors.seek(0)
        problem = errors.read().decode(errors="replace")
    if child.returncode or said[-1:] != [b"end\n"]:
        raise Ended(f"exit code {child.returncode}: {problem[-4000:]}")
    return False, said


def results(folder):
    """way -> the digest of what a training has made."""
    return {way: pathlib.Path(folder, f"{way}.result").read_text() for way in WAYS}


def count_lines(said):
    """way -> the number of its lines."""
    return collections.Counter(line.split()[0].decode() for line in said)


def course(folder, plan, environment=()):
    """Trains to the end, killed at each moment of the plan.

    Returns:
      `(where it was killed, results)`; where: `(way, last thing said)`.
    """
    where = []
    for moment in plan:
        killed, said = run(folder, environment, moment)
        if killed and said[-1] != b"end\n":  # else it had nothing left to do
            where.append(tuple(said[-1].decode().split(maxsplit=1)))
    run(folder, environment)
    return where, results(folder)


def main():
    """Prints a line for each course, and what was killed where."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="kills in all")
    parser.add_argument("--kills", type=int, default=3, help="kills per way and course")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    flavours = [{"TF_USE_LEGACY_KERAS": legacy} for legacy in "01"]
    expected, lines = [], []
    for environment in flavours:
        with tempfile.TemporaryDirectory() as folder:
            _, said = run(folder, environment)
            expected.append(results(folder))
            lines.append(count_lines(said))
    killed, wrong, number = collections.Counter(), 0, 0
    while killed.total() < arguments.count:
        flavour = number % len(flavours)
        plan = list(moments(rng, arguments.kills, lines[flavour]))
        with tempfile.TemporaryDirectory() as folder:
            try:
                where, received = course(folder, plan, flavours[flavour])
            except Ended as error:
                where, received = [], str(error)
        for way, what in where:
            saving = what.split()[0] not in ("batch", "saved")
            killed[f"{way}, {'saving' if saving else 'training'}"] += 1
        if received != expected[flavour]:
            wrong += 1
            print(f"wrong: {plan}\n{received}\nexpected {expected[flavour]}")
        number += 1
        print(f"course {number}: {len(where)} kills", flush=True)
    print(f"{killed.total()} kills in {number} courses, {wrong} of them wrong")
    print(*(f"{kind}: {count}" for kind, count in sorted(killed.items())), sep="\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
