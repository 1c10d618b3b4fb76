"""Implicit feedback: who took what, drawn from a seed or read from a log.

Each user's last item is held out, and whoever learns from the others is asked to
find it among items that the user has not taken.
"""

import dataclasses

import numpy as np

FACTORS = 4  # of the planted structure
FIT = 8.0  # how much taste counts beside chance
_CANDIDATES = 24  # popular items that a drawn user chooses among


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much feedback to draw.

    Attributes:
        users: rows of the users' tables.
        items: rows of the items' tables.
        mean: items of a user, on average; a few users have many, most have 3.
        skew: the share of the item at place i by popularity is about
            (i + 10) ** -skew.
        seed: equal seeds give equal feedback.
    """

    users: int = 100_000
    items: int = 50_000
    mean: float = 8.0
    skew: float = 0.8
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Feedback:
    """Pairs of user and item, int32 [pairs, 2] each.

    Attributes:
        users: how many there are.
        items: how many there are.
        train: to learn from; no pair is there twice.
        held_out: one of each user that has two or more.
        affinity: what the generator planted, a function of users and items; None
            of a log.
    """

    users: int
    items: int
    train: np.ndarray
    held_out: np.ndarray
    affinity: object = None

    def batches(self, epoch, negatives, seed=0):
        """An epoch's users, items and labels, shuffled: each pair and its negatives.

        Args:
            epoch: the number of the epoch.
            negatives: items per pair that its user has not taken.
            seed: equal seeds give equal epochs.
        """
        rng = np.random.default_rng([seed, epoch])
        users = np.repeat(self.train[:, 0], negatives)
        drawn = self.not_taken(rng, users, self.train)
        pairs = np.concatenate([self.train, np.stack([users, drawn], axis=1)])
        labels = np.zeros(len(pairs), np.float32)
        labels[: len(self.train)] = 1
        order = rng.permutation(len(pairs))
        return pairs[order, 0], pairs[order, 1], labels[order]

    def questions(self, users, negatives=100, seed=0):
        """Users and items, [users, 1 + negatives]; the first item is held out.

        Args:
            users: how many to ask about, at most.
            negatives: items of each that the user has not taken.
            seed: equal seeds give equal questions.
        """
        rng = np.random.default_rng([seed, 1 << 20])
        count = min(users, len(self.held_out))
        asked = self.held_out[rng.choice(len(self.held_out), count, replace=False)]
        of_user = np.repeat(asked[:, :1], 1 + negatives, axis=1)
        taken = np.concatenate([self.train, self.held_out])
        drawn = self.not_taken(rng, of_user[:, 1:].ravel(), taken)
        items = np.concatenate([asked[:, 1:], drawn.reshape(count, negatives)], axis=1)
        return of_user, items

    def not_taken(self, rng, users, taken):
        """For each of the users an item that is in no pair of `taken` with them."""
        most = np.bincount(taken[:, 0]).max()
        if most >= self.items:
            raise ValueError(
                f"a user must leave some of the {self.items} items for negatives. "
                f"Received: a user with {most}."
            )
        codes = np.sort(self._codes(taken[:, 0], taken[:, 1]))
        items = rng.integers(self.items, size=len(users), dtype=np.int32)
        left = np.arange(len(users))
        while left.size:
            wanted = self._codes(users[left], items[left])
            places = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            left = left[codes[places] == wanted]
            items[left] = rng.integers(self.items, size=left.size)
        return items

    def _codes(self, users, items):
        return users.astype(np.int64) * self.items + items


def hit_rate(scores, best=10):
    """The share of questions whose first item is among the best, ties lost.

    Args:
        scores: [questions, items].
        best: how many count.
    """
    return float(np.mean((scores[:, 1:] >= scores[:, :1]).sum(axis=1) < best))


# --- a generator


def draw(sizes):
    """Feedback with planted structure.

    Users and items are directions in space. A user takes, of some items that come up
    by their popularity, the one that lies nearest, but for some noise. Who is active
    and what is popular has nothing to do with an id's number.

    Args:
        sizes: the `Sizes`.
    """
    rng = np.random.default_rng(sizes.seed)
    of_users, of_items = (
        _unit_vectors(rng, count) for count in (sizes.users, sizes.items)
    )
    # A Pareto distribution of exponent 1.5 has the mean 2.
    more = (sizes.mean - 3) / 2 * rng.pareto(1.5, sizes.users)
    counts = 3 + np.minimum(more, sizes.items // 10).astype(np.int64)
    users = rng.permutation(np.repeat(np.arange(sizes.users, dtype=np.int32), counts))
    weights = (np.arange(sizes.items) + 10.0) ** -sizes.skew
    below = np.cumsum(weights) / weights.sum()
    by_popularity = rng.permutation(sizes.items).astype(np.int32)

    def affinity(users, items):
        return FIT * np.einsum("...f,...f->...", of_users[users], of_items[items])

    chosen = []
    for part in np.array_split(users, 1 + len(users) // 50_000):
        shape = len(part), _CANDIDATES
        places = np.searchsorted(below, rng.random(shape))
        items = by_popularity[np.minimum(places, sizes.items - 1)]
        noise = -np.log(rng.standard_exponential(shape, np.float32))
        fits = affinity(part[:, None], items) + noise  # as softmax of affinity draws
        chosen.append(np.take_along_axis(items, fits.argmax(axis=1)[:, None], axis=1))
    pairs = np.stack([users, np.concatenate(chosen)[:, 0]], axis=1)
    train, held_out = _leave_one_out(pairs)
    return Feedback(sizes.users, sizes.items, train, held_out, affinity)


def _unit_vectors(rng, count):
    vectors = rng.standard_normal((count, FACTORS), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# --- a log


def read_log(path):
    """Feedback from a file of lines `user item [timestamp]`.

    Users and items are any words. Fields are parted by white space or a comma; empty
    lines and those that begin with # are skipped. The last item of a user is the one
    of the highest timestamp or, where lines have none, of the last line.

    Args:
        path: of the file.

    Raises:
        ValueError: for another line, naming it.
    """
    users, items, times = [], [], []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, item, *time = _fields(path, number, line)
            users.append(user)
            items.append(item)
            times += time
            if len(times) not in (0, len(users)):
                _reject(path, number, line, "a timestamp on every line or on none")
    if not users:
        raise ValueError(f"{path}: expected lines `user item [timestamp]`, has none.")
    user_names, users = np.unique(users, return_inverse=True)
    item_names, items = np.unique(items, return_inverse=True)
    pairs = np.stack([users, items], axis=1).astype(np.int32)
    if times:
        pairs = pairs[np.argsort(times, kind="stable")]
    train, held_out = _leave_one_out(pairs)
    if not len(held_out):
        raise ValueError(f"{path}: expected a user with two items. Received: none.")
    return Feedback(len(user_names), len(item_names), train, held_out)


def _fields(path, number, line):
    fields = line.replace(",", " ").split()
    if len(fields) not in (2, 3):
        _reject(path, number, line, "`user item [timestamp]`")
    if len(fields) == 3:
        try:
            fields[2] = float(fields[2])
        except ValueError:
            _reject(path, number, line, "a number as the timestamp")
    return fields


def _reject(path, number, line, expected):
    raise ValueError(
        f"{path}, line {number}: expected {expected}. Received: {line.strip()!r}"
    )


def _leave_one_out(pairs):
    """The pairs without repetition in two: the last of users with several, the rest.

    Args:
        pairs: [pairs, 2], in the order of time.
    """
    _, first = np.unique(pairs, axis=0, return_index=True)
    pairs = pairs[np.sort(first)]
    # Of each user the last: the first from behind.
    users, behind, counts = np.unique(
        pairs[::-1, 0], return_index=True, return_counts=True
    )
    last = len(pairs) - 1 - behind[counts > 1]
    held_out = pairs[last]
    return np.delete(pairs, last, axis=0), held_out
