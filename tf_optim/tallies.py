"""What has become of the optimizers that `patch_keras` has replaced, in numbers."""

import dataclasses
import weakref

from tf_optim import keras_private


@dataclasses.dataclass
class Tally:
    """What has become of one class's optimizers."""

    name: str
    made: list = dataclasses.field(default_factory=list)
    calls: int = 0
    seconds: float = 0.0

    def add(self, optimizer):
        # The optimizer may go, and its slots with it; the count is a number.
        self.made.append((weakref.ref(optimizer), keras_private.count(optimizer)))

    def steps(self):
        """By the optimizers' own counts; None where they cannot be read."""
        total = 0
        for optimizer, count in self.made:
            if optimizer() is not None:
                count = keras_private.count(optimizer())
            try:
                total += int(count.numpy())
            except (AttributeError, NotImplementedError, RuntimeError):
                return None
        return total


def summary(tallies):
    """One line: what was replaced, how many steps it took, and their time."""
    if not tallies:
        return "nothing was replaced: no optimizer that it has was made"
    made = ", ".join(f"{tally.name} ({len(tally.made)})" for tally in tallies)
    steps = [tally.steps() for tally in tallies]
    calls = sum(tally.calls for tally in tallies)
    parts = [f"replaced {made}"]
    if None in steps:
        parts.append("an unknown number of steps")
    else:
        parts.append(f"{_counted(sum(steps), 'step')} by the optimizers' counts")
    if calls:
        seconds = sum(tally.seconds for tally in tallies)
        made_by = _counted(calls, "call")
        parts.append(f"{made_by} outside of a tf.function took {seconds:.3f} s")
    if None in steps or sum(steps) > calls:
        parts.append("the time of steps inside a tf.function is not known to Python")
    return "; ".join(parts)


def _counted(number, noun):
    return f"{number} {noun}{'s' * (number != 1)}"
