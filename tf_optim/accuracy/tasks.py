"""Small trainings whose final loss is compared.

Each has its data drawn once, and `losses(optimizer, seed)`, which trains from the start
that the seed gives and yields progress, then returns the loss on data held out.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tf_optim.demo import digits, identifiers, skipgram


@dataclasses.dataclass(frozen=True)
class Task:
    """A training.

    Attributes:
        name: for the table.
        steps: how many it takes.
        learning_rate: of all optimizers.
        run: a function of (optimizer, seed, advance) that trains, calls `advance` after
            each step, and returns the loss.
    """

    name: str
    steps: int
    learning_rate: float
    run: object


def digits_task(quick):
    """Two dense layers on scikit-learn's digits, Adam; the loss of the test images."""
    (x, y), (test_x, test_y), _ = digits.load()
    steps, batch = (40 if quick else 400), 128

    def run(optimizer, seed, advance):
        tf.keras.utils.set_random_seed(seed)
        model = tf.keras.Sequential(
            [
                tf.keras.layers.Input((x.shape[1],)),
                tf.keras.layers.Dense(256, activation="relu"),
                tf.keras.layers.Dense(256, activation="relu"),
                tf.keras.layers.Dense(10),
            ]
        )
        return _train_model(
            model, optimizer, (x, y), (test_x, test_y), steps, batch, seed, advance
        )

    return Task("digits, dense layers", steps, 1e-3, run)


def _train_model(model, optimizer, data, test, steps, batch, seed, advance):
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    variables = model.trainable_variables
    optimizer.build(variables)  # else the step is traced twice

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )

    @tf.function
    def loss(x, y):
        return loss_of(y, model(x, training=False))

    rng = np.random.default_rng(seed)
    for _ in range(steps):
        some = rng.integers(0, len(data[0]), batch)
        step(tf.constant(data[0][some]), tf.constant(data[1][some]))
        advance()
    parts = [
        float(loss(test[0][i : i + 512], test[1][i : i + 512]))
        for i in range(0, len(test[0]), 512)
    ]
    return float(np.mean(parts))


def text_task(quick):
    """A transformer that reads the standard library, character by character."""
    length, width, steps, batch = 64, 96, (8 if quick else 250), 32
    held_out = 128 if quick else 1024
    text = b"".join(
        path.read_bytes() for path in identifiers.standard_library_files()[:120]
    )
    characters = np.frombuffer(text, np.uint8).astype(np.int32) % 128
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(characters) - length - 1, 12_000)
    windows = characters[starts[:, None] + np.arange(length + 1)]
    data = windows[:-held_out, :-1], windows[:-held_out, 1:]
    test = windows[-held_out:, :-1], windows[-held_out:, 1:]

    def run(optimizer, seed, advance):
        tf.keras.utils.set_random_seed(seed)
        model = Transformer(128, length, width)
        model(tf.constant(test[0][:1]))
        return _train_model(model, optimizer, data, test, steps, batch, seed, advance)

    return Task("text, transformer", steps, 2e-3, run)


class Transformer(tf.keras.Model):
    """Two blocks of attention that does not look ahead."""

    def __init__(self, characters, length, width):
        super().__init__()
        layers = tf.keras.layers
        self.of_character = layers.Embedding(characters, width)
        self.of_place = layers.Embedding(length, width)
        self.attention = [layers.MultiHeadAttention(4, width // 4) for _ in range(2)]
        self.norms = [layers.LayerNormalization() for _ in range(5)]
        self.wide = [layers.Dense(4 * width, activation="relu") for _ in range(2)]
        self.narrow = [layers.Dense(width) for _ in range(2)]
        self.head = layers.Dense(characters)

    def call(self, x, training=False):
        """Logits of the next character."""
        y = self.of_character(x) + self.of_place(tf.range(tf.shape(x)[1]))
        for i in range(2):
            z = self.norms[2 * i](y)
            y = y + self.attention[i](z, z, use_causal_mask=True)
            z = self.norms[2 * i + 1](y)
            y = y + self.narrow[i](self.wide[i](z))
        return self.head(self.norms[4](y))


def words_task(quick):
    """Skip-gram of identifiers: two tables and sparse gradients, lazy Adam.

    The loss is the mean of the last steps', each of pairs not seen before.
    """
    steps = 60 if quick else 1200
    corpus = identifiers.build_corpus(identifiers.standard_library_files()[:400])

    def run(optimizer, seed, advance):
        batches = identifiers.SkipGrams(corpus, seed=seed)
        model = skipgram.SkipGram(len(corpus.words), optimizer, dim=64, seed=seed)
        losses = []
        for _ in range(steps):
            batch = batches.next_batch()
            losses.append(
                float(
                    model.step(tf.constant(batch.centers), tf.constant(batch.contexts))
                )
            )
            advance()
        return float(np.mean(losses[-steps // 6 :]))

    return Task("skip-gram, sparse", steps, 0.01, run)


def all_tasks(quick):
    """The trainings, from the shortest."""
    return [make(quick) for make in (digits_task, words_task, text_task)]
