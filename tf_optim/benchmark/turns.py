"""Subjects of one process that take turns, and their ratios within each round."""

import statistics


def spread(values):
    """Half of the range of the middle half."""
    if len(values) < 4:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def take(subjects, rounds, say=lambda round_: None):
    """The seconds of each subject in each round, by name.

    Args:
        subjects: by name; each has `seconds()`.
        rounds: how many.
        say: called with the number of each round, from 1, before it.
    """
    times = {name: [] for name in subjects}
    for i in range(rounds):
        say(i + 1)
        for name, subject in subjects.items():
            times[name].append(subject.seconds())
    return times


def figure(times, base):
    """The median of times, and of their ratios to another subject's.

    Args:
        times: seconds, one for each round.
        base: those of the other subject, in the same rounds.

    Returns:
        A dict of "ms", "ms_spread", "ratio" and "spread", the ratio's.
    """
    ratios = [mine / other for mine, other in zip(times, base, strict=True)]
    return {
        "ms": 1e3 * statistics.median(times),
        "ms_spread": 1e3 * spread(times),
        "ratio": statistics.median(ratios),
        "spread": spread(ratios),
    }


def cells(figure):
    """A figure in a table: its milliseconds, and its ratio; dashes for None."""
    if figure is None:
        return ["-", "-"]
    return [f"{figure['ms']:.3g}", f"{figure['ratio']:.2f}x +- {figure['spread']:.2f}"]
