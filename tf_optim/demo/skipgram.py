"""Part b: embeddings of identifiers, sparse gradients, and Adam.

Skip-gram with negative sampling keeps two tables with a row for each word of the
vocabulary. A step looks up a few thousand rows, many of them more than once, so its
gradients are `tf.IndexedSlices` with repeated ids: the case of every large embedding.
"""

import dataclasses
import time

import numpy as np
import tensorflow as tf

import tf_optim
from tf_optim.demo import identifiers, report

_DIM = 128
_WARM_UP = 3  # steps before anything is timed
_GO_ON = 30.0  # seconds
_MEAN_OF = 50  # losses in a reported one
_SHOWN = ("self", "os", "path", "int", "dict")
_NEIGHBOURS, _FREQUENT = 6, 100


class SkipGram:
    """The two tables and the steps of one optimizer on them.

    `step(centers, contexts)` takes one training step and returns the loss per pair;
    `apply(gradients)` is the optimizer's part of it, for gradients given as one
    `tf.IndexedSlices` for each table. Both are `tf.function`s.

    Args:
      vocabulary: The number of words.
      optimizer: A Keras optimizer.
      dim: The length of a word's vector.
      seed: Equal seeds give equal initial tables.
      exact: Whether rows are brought up to date when they are read.
    """

    def __init__(self, vocabulary, optimizer, dim=_DIM, seed=0, exact=False):
        rng = np.random.default_rng(seed)
        start = rng.uniform(-0.5 / dim, 0.5 / dim, (vocabulary, dim))
        self.words = tf.Variable(start.astype("float32"))
        self.contexts = tf.Variable(tf.zeros([vocabulary, dim]))
        self._tables = [self.words, self.contexts]
        self._optimizer = optimizer
        self._lookup = tf_optim.lookup if exact else tf.gather
        self._exact = exact
        optimizer.build(self._tables)
        # Traced here, once: nothing that is timed later traces.
        self.step = tf.function(self._step).get_concrete_function(
            tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)
        )
        self.apply = tf.function(self._apply)

    def gradients(self, centers, contexts):
        """Returns the loss per pair and the gradients of the tables."""
        with tf.GradientTape() as tape:
            near = self._lookup(self.words, centers)
            far = self._lookup(self.contexts, contexts)
            logits = tf.einsum("bd,bcd->bc", near, far)
            first = tf.one_hot(tf.zeros_like(centers), tf.shape(contexts)[1])
            loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(first, logits))
        pairs = tf.cast(tf.size(centers), loss.dtype)
        return loss / pairs, tape.gradient(loss, self._tables)

    def _apply(self, gradients):
        if self._exact:  # what looking these rows up has done in a training step
            for gradient, table in zip(gradients, self._tables, strict=True):
                self._optimizer.catch_up(table, gradient.indices)
        self._optimizer.apply_gradients(zip(gradients, self._tables, strict=True))

    def _step(self, centers, contexts):
        loss, gradients = self.gradients(centers, contexts)
        self._apply(gradients)
        return loss


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
      steps: How many steps all optimizers take side by side.
      learning_rate: The learning rate of all optimizers.
      batch_size: Pairs in a batch.
      rounds: How often to time `apply_gradients` alone.
    """

    steps: int
    learning_rate: float
    batch_size: int = 1024
    rounds: int = 40


@dataclasses.dataclass(frozen=True)
class _Contender:
    owner: str
    name: str
    optimizer: object  # makes a fresh one

    def model(self, vocabulary):
        """A fresh model and optimizer."""
        exact = self.owner == report.OURS_EXACT
        return SkipGram(vocabulary, self.optimizer(), exact=exact)


def _contenders(stock_name, learning_rate):
    def ours(mode):
        return lambda: tf_optim.Adam(learning_rate, sparse_update=mode)

    return [
        _Contender(
            report.STOCK,
            f"{stock_name} Adam",
            lambda: tf.keras.optimizers.Adam(learning_rate),
        ),
        _Contender(report.OURS, "tf_optim.Adam", ours("lazy")),
        _Contender(report.OURS_DENSE, 'tf_optim.Adam, "dense"', ours("dense")),
        _Contender(report.OURS_EXACT, 'tf_optim.Adam, "exact"', ours("exact")),
    ]


def time_apply(contenders, batches, vocabulary, rounds, progress_bar):
    """Returns the milliseconds of `apply_gradients` alone, [contender][round].

    Each contender gets the gradients of the same batches. They take turns, so that
    whatever else the machine does meets all of them alike.
    """
    models = [each.model(vocabulary) for each in contenders]
    for model in models:
        for batch in batches[:_WARM_UP]:
            _step(model, batch)
    # From tables that have left their start, where many gradients are zero.
    gradients = [
        models[0].gradients(batch.centers, batch.contexts)[1] for batch in batches
    ]
    milliseconds = [[] for _ in models]
    for i in progress_bar(
        range(_WARM_UP + rounds), desc="skip-gram, apply_gradients alone", unit="round"
    ):
        for model, times in zip(models, milliseconds, strict=True):
            began = time.perf_counter()
            model.apply(gradients[i % len(gradients)])
            times.append((time.perf_counter() - began) * 1e3)
    return [times[_WARM_UP:] for times in milliseconds]


def _step(model, batch):
    return float(model.step(tf.constant(batch.centers), tf.constant(batch.contexts)))


def _timed_step(model, curve, batch):
    began = time.perf_counter()
    loss = _step(model, batch)
    seconds = time.perf_counter() - began
    curve.add(seconds, loss)
    return seconds


def train(contenders, skip_grams, vocabulary, steps, progress_bar):
    """Takes the same steps with each contender; ours then goes on alone.

    It does so until it has trained for as long as stock, but for no more than
    `_GO_ON` seconds.

    Returns:
      The curves, and the word vectors of `tf_optim.Adam` at the end.
    """
    models = [each.model(vocabulary) for each in contenders]
    curves = [report.Curve(each.owner, each.name) for each in contenders]
    batch = skip_grams.next_batch()
    for model in models:  # the first step sets TensorFlow up: not timed
        _step(model, batch)
    for _ in progress_bar(range(steps), desc="skip-gram, side by side", unit="step"):
        batch = skip_grams.next_batch()
        for model, curve in zip(models, curves, strict=True):
            _timed_step(model, curve, batch)
    stock, ours = curves[:2]
    end = min(stock.seconds[-1], ours.seconds[-1] + _GO_ON)
    left = end - ours.seconds[-1]
    with progress_bar(
        total=left,
        desc=f"skip-gram, {ours.name} goes on",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s",
    ) as bar:
        while left > 0:
            seconds = _timed_step(models[1], ours, skip_grams.next_batch())
            bar.update(min(seconds, left))
            left -= seconds
    return curves, models[1].words.numpy()


def neighbours(corpus, vectors, word, count=_NEIGHBOURS, least=_FREQUENT):
    """Returns the words with the greatest cosine to `word`, best first.

    Args:
      corpus: The corpus of the vectors.
      vectors: [words, dim].
      word: A word of the corpus.
      count: How many to return.
      least: Words that occur less often are left out.
    """
    frequent = int(np.sum(corpus.counts >= least))  # ids go by frequency
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    query = corpus.id_of(word)
    cosines = unit[:frequent] @ unit[query]
    best = [i for i in np.argsort(-cosines) if i != query][:count]
    return [(corpus.words[i], float(cosines[i])) for i in best]


def run(progress_bar, stock_name, settings, paths=None) -> report.Part:
    """Trains word vectors with stock's Adam and with ours, and times both.

    Args:
      progress_bar: Makes a progress bar, as `tqdm.tqdm` does.
      stock_name: What to call stock Keras.
      settings: How to train.
      paths: The source files to learn from; None for Python's standard library.
    """
    paths = identifiers.standard_library_files() if paths is None else paths
    corpus = identifiers.build_corpus(
        paths,
        lambda files: progress_bar(files, desc="skip-gram, reading", unit="file"),
    )
    vocabulary = len(corpus.words)
    contenders = _contenders(stock_name, settings.learning_rate)
    skip_grams = identifiers.SkipGrams(corpus, settings.batch_size)
    samples = [skip_grams.next_batch() for _ in range(8)]
    applied = time_apply(contenders, samples, vocabulary, settings.rounds, progress_bar)
    curves, vectors = train(
        contenders, skip_grams, vocabulary, settings.steps, progress_bar
    )
    return report.Part(
        title="Skip-gram with negative sampling, sparse gradients, Adam",
        header=[
            "optimizer",
            "apply_gradients ms",
            "faster",
            "whole step ms",
            "faster",
            f"loss at step {settings.steps:,}",
        ],
        rows=_rows(applied, curves, settings.steps),
        notes=[
            *_about(corpus, samples, settings),
            "",
            _apart(curves, settings.steps),
            *_compared(*curves[:2], settings.steps),
            "",
            *_learned(corpus, vectors),
        ],
        curves=curves,
        loss=f"training loss per pair (mean of {_MEAN_OF} steps)",
        same_step=settings.steps,
        smooth=_MEAN_OF,
    )


def _rows(applied, curves, steps):
    whole = [curve.step_ms[:steps] for curve in curves]
    return [
        [
            curve.name,
            report.median_and_spread(apply_ms),
            report.ratio(applied[0], apply_ms),
            report.median_and_spread(step_ms),
            report.ratio(whole[0], step_ms),
            f"{curve.loss_at(steps, _MEAN_OF):.3f}",
        ]
        for curve, apply_ms, step_ms in zip(curves, applied, whole, strict=True)
    ]


def _about(corpus, samples, settings):
    """What was trained and how the table's figures were taken."""
    vocabulary = len(corpus.words)
    ids = [samples[0].centers.size, samples[0].contexts.size]
    distinct = [
        np.mean([np.unique(getattr(batch, field)).size for batch in samples])
        for field in ("centers", "contexts")
    ]
    return [
        f"Two tables of {vocabulary:,} x {_DIM}: all identifiers in "
        f"{len(corpus.files):,} source files of Python's standard library",
        f"({corpus.size:,} occurrences). A step looks up {ids[0]:,} + {ids[1]:,} ids, "
        f"of which {distinct[0]:,.0f} + {distinct[1]:,.0f} differ.",
        "Times are medians (quartiles) without tracing and warm-up, taken in turns.",
        f"Losses are means of {_MEAN_OF} batches up to that step; same start, same "
        f"batches, learning rate {settings.learning_rate:g}.",
        "tf_optim.Adam changes the rows that occur in the gradient and no other; with "
        '"dense" every row',
        'decays, as in stock; "exact" gives the same, for a row when it is looked up.',
    ]


def _apart(curves, steps):
    """How far the loss of "exact" is from others at most."""
    stock, dense, exact = (
        next(curve for curve in curves if curve.owner == owner).means(_MEAN_OF)[:steps]
        for owner in (report.STOCK, report.OURS_DENSE, report.OURS_EXACT)
    )
    from_dense, from_stock = (np.abs(each - exact).max() for each in (dense, stock))
    return (
        f'The loss of "exact" differs from that of "dense" by {from_dense:.1g} at '
        f"most, and from stock's\nby {from_stock:.1g}: stock squares the gradients of "
        "an id that occurs twice one by one."
    )


def _compared(stock, ours, steps):
    """How the losses compare before that step, and after the same time."""
    behind = np.flatnonzero(ours.means(_MEAN_OF)[:steps] > stock.means(_MEAN_OF))
    lines = []
    if behind.size:
        lines = [
            f"At equal steps stock has the lower loss up to step {behind[-1] + 1:,}: "
            'like "dense", it goes on moving a row after its',
            "gradient, which helps early on, and for longer at a lower learning rate "
            "(see --learning-rate).",
        ]
    reached, stock_loss = (
        f"loss {curve.loss_at(step, _MEAN_OF):.3f} in {curve.seconds[-1]:.0f} s"
        for curve, step in ((ours, len(ours.losses)), (stock, steps))
    )
    return [
        *lines,
        f"tf_optim.Adam then went on alone. Training time so far: {len(ours.losses):,} "
        f"steps to {reached};",
        f"stock: {steps:,} steps to {stock_loss}.",
    ]


def _learned(corpus, vectors):
    """The neighbours of a few identifiers, for a person to judge."""
    lines = [
        f"What its vectors then hold to be near (cosine; identifiers that occur at "
        f"least {_FREQUENT} times):"
    ]
    width = max(map(len, _SHOWN))
    for word in _SHOWN:
        if corpus.id_of(word) is not None:
            near = neighbours(corpus, vectors, word)
            found = ", ".join(f"{other} {cosine:.2f}" for other, cosine in near)
            lines.append(f"  {word:<{width}}  {found}")
    return lines
