"""Two towers: which item does a user take next?

A user's and an item's row of two large tables go through two dense layers each, and
the loss is that of telling each user's item from the others of the batch. A step
names a few thousand rows of millions, the frequent ones many times.
"""

import dataclasses

import numpy as np
import tensorflow as tf

_CLUSTERS = 64  # users of a cluster mostly take items of it


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to train, and how long.

    Attributes:
        rows: the rows of each of the two tables.
        dim: the length of a row.
        batch: pairs of user and item in a step of one replica or worker.
        steps: how many steps each optimizer takes.
        warm_up: steps before those, which are not timed.
        learning_rate: of both optimizers.
        zipf: the exponent of the ids' distribution, > 1.
        log: a file of lines `user,item[,...]` to take pairs from; None to draw them.
        seed: equal seeds give equal pairs and equal starts.
    """

    rows: int = 1_000_000
    dim: int = 16
    batch: int = 1024
    steps: int = 60
    warm_up: int = 3
    learning_rate: float = 0.01
    zipf: float = 1.2
    log: str | None = None
    seed: int = 0


class Pairs:
    """Batches of pairs of ids, drawn or from a log.

    Args:
        settings: the `Settings`.
    """

    def __init__(self, settings):
        self._settings = settings
        self._log = _read(settings.log) if settings.log else None

    def batch(self, step, part=0):
        """Two int64 arrays, [batch]: users and items.

        Args:
            step: the number of the step.
            part: the number of the replica or worker.
        """
        settings = self._settings
        rng = np.random.default_rng([settings.seed, step, part])
        if self._log is not None:
            chosen = rng.integers(len(self._log), size=settings.batch)
            users, items = self._log[chosen].T
            return users % settings.rows, items % settings.rows
        users, items = self._zipf(rng), self._zipf(rng)
        same = rng.random(settings.batch) < 0.9
        items = np.where(same, items - items % _CLUSTERS + users % _CLUSTERS, items)
        return users, np.minimum(items, settings.rows - 1)

    def distinct(self, steps=5):
        """How many users and items a batch has that differ, on average."""
        batches = [self.batch(step) for step in range(steps)]
        return np.mean([sum(np.unique(ids).size for ids in b) for b in batches])

    def _zipf(self, rng):
        """Ids in [0, rows), of which id i has about the weight (i + 1) ** -zipf."""
        power = 1 - self._settings.zipf
        last = (self._settings.rows + 1.0) ** power
        drawn = (1 - rng.random(self._settings.batch) * (1 - last)) ** (1 / power)
        return np.minimum(drawn.astype(np.int64), self._settings.rows) - 1


def _read(path):
    """The first two columns of a file as an array, [lines, 2]."""
    with open(path) as file:
        first = file.readline()
        separator = next((c for c in ",\t;" if c in first), None)
        header = not first.split(separator)[0].strip().isdigit()
    return np.loadtxt(
        path, np.int64, delimiter=separator, usecols=(0, 1), skiprows=int(header)
    )


class TwoTowers(tf.Module):
    """The model. Under a strategy it is made in its scope.

    Args:
        settings: the `Settings`.
    """

    def __init__(self, settings):
        super().__init__()
        dim, seed = settings.dim, settings.seed

        def random(i, *shape):
            scale = shape[0] ** -0.5 if i >= 2 else dim**-0.5
            return tf.random.stateless_normal(shape, [seed, i]) * scale

        self.users = tf.Variable(random(0, settings.rows, dim), name="users")
        self.items = tf.Variable(random(1, settings.rows, dim), name="items")
        self.layers = [
            [
                tf.Variable(
                    random(2 + 2 * tower + i, *shape), name=f"dense_{tower}_{i}"
                )
                for i, shape in enumerate([(dim, 2 * dim), (2 * dim, dim)])
            ]
            for tower in range(2)
        ]

    def all_variables(self):
        """Every variable; of a table that is split over servers its shards."""
        whole = [self.users, self.items, *self.layers[0], *self.layers[1]]
        return [part for each in whole for part in getattr(each, "variables", [each])]

    def loss(self, users, items):
        """The mean cross entropy of telling each user's item from the batch's."""
        vectors = []
        for table, ids, (first, second) in (
            (self.users, users, self.layers[0]),
            (self.items, items, self.layers[1]),
        ):
            each_once, places = tf.unique(ids)  # a row is fetched once
            rows = tf.nn.embedding_lookup(table, each_once)
            vectors.append(tf.gather(tf.nn.relu(rows @ first) @ second, places))
        logits = tf.matmul(*vectors, transpose_b=True)
        # An item that is in the batch twice is right in both places.
        same = tf.cast(items[:, None] == items[None, :], logits.dtype)
        labels = same / tf.reduce_sum(same, axis=1, keepdims=True)
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))

    def gradients(self, users, items):
        """The loss, and pairs of gradient and variable."""
        variables = self.all_variables()
        with tf.GradientTape() as tape:
            loss = self.loss(users, items)
        return loss, list(zip(tape.gradient(loss, variables), variables, strict=True))
