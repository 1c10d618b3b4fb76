"""Neural collaborative filtering: which item does a user take next?

    python -m examples.ncf               # about three minutes on two cores
    python -m examples.ncf --quick
    python -m examples.ncf --log FILE    # lines `user item [timestamp]`

NeuMF (He et al., 2017, arXiv:1708.05031) learns from implicit feedback: who took
what. It has two tables for a product of a user's and an item's row (GMF) and two for a
network over both rows (MLP). A batch names a few thousand rows of them; the others
lie idle. Stock Adam moves these too, in every step, and so does "exact", which does
it when they are next read. "lazy" leaves them as they are. Where a batch names a row
more than once, Keras 3 adds up the squares of the gradient's parts, and ours squares
their sum, as a dense gradient would have it: there stock and "exact" differ a little,
and --modes stock dense exact shows by how much.

Training amplifies what rounding does. "exact-nudged" is "exact" from a start of which
each number is moved by about one part in ten million: how far the two end apart is
what no comparison here can tell from nothing. "exact-int8" (--modes exact exact-int8)
keeps the momentum and velocity of each number in a byte.

Each user's last item is held out. The hit rate is the share of users for whom it is
among the first ten of itself and 100 items that the user has not taken.
"""

import argparse
import dataclasses
import os
import sys
import time

import numpy as np

from examples import feedback, hit_rates

STOCK, NUDGED, IN_8_BITS = "stock", "exact-nudged", "exact-int8"
MODES = (STOCK, "lazy", "eventual", "exact", NUDGED, "dense", IN_8_BITS)
DEFAULT_MODES = MODES[:5]
_NUDGE = 1e-7


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to train, and how long.

    Attributes:
        factors: columns of the GMF tables; the MLP's have twice as many.
        batch: pairs of user and item in a step, negatives included.
        negatives: of each pair, drawn anew for each epoch.
        epochs: how many.
        learning_rate: of all optimizers.
        asked: users that the hit rate is taken over.
        seed: equal seeds give equal starts and batches.
    """

    factors: int = 16
    batch: int = 8192
    negatives: int = 3
    epochs: int = 5
    learning_rate: float = 0.003
    asked: int = 10_000
    seed: int = 0


QUICK = {"users": 20_000, "items": 10_000, "batch": 2048, "epochs": 3, "asked": 3000}


_LEAST = {"factors": 2, "items": 100, "mean": 3, "seed": 0}


# --- the model and its optimizers


def neumf(data, settings, embedding):
    """The model: users and items in, a logit out.

    Args:
        data: the `feedback.Feedback`.
        settings: the `Settings`.
        embedding: the class of the tables' layers.
    """
    import tensorflow as tf

    layers, factors = tf.keras.layers, settings.factors

    def rows(ids, count, dim, name):
        start = tf.keras.initializers.RandomNormal(stddev=0.01)
        return embedding(count, dim, embeddings_initializer=start, name=name)(ids)

    user, item = (
        tf.keras.Input((), dtype="int32", name=name) for name in ("user", "item")
    )
    product = layers.Multiply()(
        [
            rows(user, data.users, factors, "gmf_users"),
            rows(item, data.items, factors, "gmf_items"),
        ]
    )
    hidden = layers.Concatenate()(
        [
            rows(user, data.users, 2 * factors, "mlp_users"),
            rows(item, data.items, 2 * factors, "mlp_items"),
        ]
    )
    for width in (2 * factors, factors, factors // 2):
        hidden = layers.Dense(width, activation="relu")(hidden)
    both = layers.Concatenate()([product, hidden])
    return tf.keras.Model([user, item], layers.Dense(1)(both))


class Contender:
    """One optimizer's model and what came of it.

    Attributes:
        mode: one of `MODES`.
        hit_rates: before training and after each epoch.
        losses: the mean of each epoch.
        rates: steps per second of each epoch.
        seconds: of training up to the end of each epoch, evaluation left out.
    """

    def __init__(self, mode, data, settings):
        import tensorflow as tf

        import tf_optim

        # The same start for all.
        tf.keras.utils.set_random_seed(settings.seed)
        self.mode, self.settings = mode, settings
        # This is all that "exact" asks for. `tf_optim.prepare(model)` would do as well.
        exact = mode in ("exact", NUDGED, IN_8_BITS)
        self.model = neumf(
            data, settings, tf_optim.Embedding if exact else tf.keras.layers.Embedding
        )
        if mode == STOCK:
            optimizer = tf.keras.optimizers.Adam(settings.learning_rate)
        else:
            optimizer = tf_optim.Adam(
                settings.learning_rate,
                sparse_update="exact" if exact else mode,
                slot_dtype="int8" if mode == IN_8_BITS else "float32",
            )
        self.model.compile(
            optimizer,
            tf.keras.losses.BinaryCrossentropy(from_logits=True),
            jit_compile=False,
        )
        if mode == NUDGED:
            rng = np.random.default_rng(settings.seed)
            for variable in self.model.trainable_variables:
                factor = 1 + _NUDGE * rng.standard_normal(variable.shape)
                variable.assign(variable.numpy() * factor)
        self.hit_rates, self.losses, self.rates, self.seconds = [], [], [], []

    def train(self, users, items, labels, bar):
        """One epoch, in the order given.

        Args:
            users: int32 [pairs].
            items: int32 [pairs].
            labels: float32 [pairs].
            bar: a progress bar, moved by one for each step.
        """
        import tensorflow as tf

        ends = []

        def step_ended(batch, logs):
            ends.append(time.perf_counter())
            bar.update()

        history = self.model.fit(
            [users, items],
            labels,
            batch_size=self.settings.batch,
            shuffle=False,
            verbose=0,
            callbacks=[tf.keras.callbacks.LambdaCallback(on_batch_end=step_ended)],
        )
        # The first step sets up the iterator and, once, traces.
        self.rates.append((len(ends) - 1) / max(ends[-1] - ends[0], 1e-9))
        before = self.seconds[-1] if self.seconds else 0.0
        self.seconds.append(before + len(ends) / self.rates[-1])
        self.losses.append(history.history["loss"][0])

    def evaluate(self, users, items):
        """Takes the hit rate.

        Args:
            users: [questions, items].
            items: [questions, items], the held-out one first.
        """
        if self.mode == "eventual":
            # Its tables are read as they lie. "exact" needs no such call.
            self.model.optimizer.catch_up()
        scores = self.model.predict(
            [users.ravel(), items.ravel()], batch_size=1 << 16, verbose=0
        )
        self.hit_rates.append(feedback.hit_rate(scores.reshape(items.shape)))

    @property
    def name(self):
        """As in the table."""
        names = {
            STOCK: STOCK,
            NUDGED: '"exact", nudged',
            IN_8_BITS: '"exact", 8-bit slots',
        }
        return names.get(self.mode, f'"{self.mode}"')

    @property
    def seconds_per_epoch(self):
        """The median."""
        return float(np.median(np.diff(self.seconds, prepend=0.0)))


def run(data, settings, modes, bar):
    """Trains all, epoch by epoch in turns, so that the machine's moods meet all.

    Args:
        data: the `feedback.Feedback`.
        settings: the `Settings`.
        modes: some of `MODES`.
        bar: makes a progress bar, as `tqdm.tqdm` does.

    Returns:
        The `Contender`s.
    """
    contenders = [Contender(mode, data, settings) for mode in modes]
    questions = data.questions(settings.asked, seed=settings.seed)
    for contender in contenders:
        contender.evaluate(*questions)
    steps = -(-len(data.train) * (1 + settings.negatives) // settings.batch)
    with bar(total=steps * len(modes) * settings.epochs, unit="step") as progress:
        for epoch in range(settings.epochs):
            batches = data.batches(epoch, settings.negatives, settings.seed)
            for contender in contenders:
                progress.set_description(f"epoch {epoch + 1}, {contender.name}")
                contender.train(*batches, progress)
                contender.evaluate(*questions)
    return contenders


# --- the command line


def _at_least(least, kind):
    def number(text):
        value = kind(text)
        if value < least:
            raise argparse.ArgumentTypeError(
                f"expected at least {least}. Received: {text}"
            )
        return value

    return number


def parse(arguments=None):
    """The options, with the settings and sizes among them."""
    sizes, settings = feedback.Sizes(), Settings()
    parser = argparse.ArgumentParser(
        prog="python -m examples.ncf", description=__doc__.split("\n")[0]
    )
    for defaults in (sizes, settings):
        for field in dataclasses.fields(defaults):
            value = getattr(defaults, field.name)
            name = f"--{field.name.replace('_', '-')}"
            if field.name != "seed" or defaults is settings:
                least = _LEAST.get(field.name, 1 if type(value) is int else 0)
                kind = _at_least(least, type(value))
                parser.add_argument(name, type=kind, help=f"default: {value}")
    parser.add_argument("--log", help="lines `user item [timestamp]`; default: drawn")
    parser.add_argument(
        "--modes", nargs="+", choices=MODES, default=DEFAULT_MODES, metavar="MODE",
        help=f"of {', '.join(MODES)}; default: {' '.join(DEFAULT_MODES)}",
    )  # fmt: skip
    parser.add_argument("--plot", default="ncf.png", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help=f"small: {QUICK}")
    options = parser.parse_args(arguments)
    given = {k: v for k, v in vars(options).items() if v is not None}
    given = {**(QUICK if options.quick else {}), **given}
    for name, defaults in (("sizes", sizes), ("settings", settings)):
        names = [field.name for field in dataclasses.fields(defaults)]
        chosen = {name: given[name] for name in names if name in given}
        setattr(options, name, dataclasses.replace(defaults, **chosen))
    return options


def main(arguments=None):
    options = parse(arguments)
    path = os.path.abspath(options.plot)
    if not os.access(os.path.dirname(path), os.W_OK):
        sys.exit(f"--plot: expected a file in a folder to write to. Received: {path}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    began = time.perf_counter()
    import tensorflow as tf
    import tqdm

    tf.config.set_visible_devices([], "GPU")  # the history of a table is the CPU's
    settings = options.settings
    if options.log:
        try:
            data = feedback.read_log(options.log)
        except (OSError, ValueError) as error:
            sys.exit(f"--log: {error}")
    else:
        print("Drawing feedback.", flush=True)
        data = feedback.draw(options.sizes)
    users, items, _ = data.batches(0, settings.negatives, settings.seed)
    named = [np.unique(ids[: settings.batch]).size for ids in (users, items)]
    print(
        f"{len(data.train):,} pairs of {data.users:,} users and {data.items:,} items; "
        f"{settings.negatives} negatives each.\nTables of {settings.factors} and "
        f"{2 * settings.factors} columns. A step of {settings.batch:,} names "
        f"{named[0]:,} users and {named[1]:,} items.",
        flush=True,
    )
    contenders = run(data, settings, options.modes, tqdm.tqdm)
    hit_rates.show(data, settings, contenders)
    hit_rates.plot(contenders, path)
    print(f"\nHit rate against epoch and time: {path}")
    print(f"The whole took {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    main()
