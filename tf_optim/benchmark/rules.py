"""What is decided before any figure is known: orders, repeats, what a limit is.

Each is a function of its arguments alone.
"""

import random

# Placed again is what takes less than so many times ours, however fast it is, and
# what comes as near as this to a target.
CLOSE = 2.5
AROUND = 0.25
# Below, variables, slots and gradients lie in the caches.
CACHES = 2**25
# A limit that something beats by more than noise is none.
NOISE = 1.02

# (case, optimizer, subject, times as long as ours): what the project promised
# itself. Figures that are near are taken as often as those that are near ours.
TARGETS = (
    ("dense", "Adam", "keras3 graph", 4.0),
    ("dense", "Adam", "keras3 jit", 1.3),
    ("dense", "Adam", "tf raw op", 1.5),
    ("dense", "Adam", "torch fused", 1.0),
    ("dense", "RMSprop", "keras3 graph", 4.0),
    ("many-small", "RMSprop", "keras3 graph", 3.0),
    ("many-small", "Adam", "keras3 graph", 3.0),
    ("many-small", "Adam", "tf_keras legacy", 1.0),
    ("many-small", "Lamb", "keras3 graph", 3.0),
    ("resnet50", "Adam", "torch fused", 1.0),
    ("bert-base", "Adam", "torch fused", 1.0),
    ("sparse-uniform", "Adam", "torch sparse", 8.7),
    ("sparse-uniform", "Adamax", "tf_keras legacy", 4.0),
    ("sparse-uniform", "Adagrad", "fbgemm", 9.3),
    ("sparse-uniform", "RowWiseAdagrad", "fbgemm", 2.05),
    ("sparse-zipf", "RowWiseAdagrad", "fbgemm", 1.0),
)


def order(names, *where):
    """A permutation of `names`: always the same one of a place.

    Args:
      names: in any order.
      where: names the place: case, optimizer, placement, round.
    """
    shuffled = sorted(names)
    random.Random(" ".join(map(str, where))).shuffle(shuffled)
    return shuffled


def again(case, optimizer, ratios, targets=TARGETS):
    """Names of the subjects that are placed again, chosen after the first placement.

    Args:
      case, optimizer: names.
      ratios: subject -> times as long as ours; None where nothing of ours does the
        same.
      targets: as `TARGETS`.
    """
    aims = {
        subject: ratio
        for at, name, subject, ratio in targets
        if (at, name) == (case, optimizer)
    }
    return {
        name
        for name, ratio in ratios.items()
        if ratio is not None
        and (ratio < CLOSE or abs(ratio / aims.get(name, 1e9) - 1) <= AROUND)
    }


def limit_fractions(fractions, held):
    """What is shown of "of limit", and a note on why nothing is, "" if it is.

    Args:
      fractions: subject -> rate over that of the stream that was measured.
      held: bytes that it passes over before it comes back to the first.
    """
    nothing = dict.fromkeys(fractions)
    if held < CACHES:
        return nothing, "a stream in the caches, not a limit"
    fastest = max(fractions, key=fractions.get, default=None)
    if fastest is not None and fractions[fastest] > NOISE:
        note = f"not a limit: {fastest} is {fractions[fastest]:.2f}x as fast"
        return nothing, note
    return {name: min(1.0, fraction) for name, fraction in fractions.items()}, ""
