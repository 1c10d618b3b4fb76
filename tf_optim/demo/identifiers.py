"""The corpus of the skip-gram demo: identifiers of Python's standard library.

Every machine that can run the demo has this text. Its identifiers follow a steep
frequency law (`self` is one in seven, most names occur a few times), as in most tables
of embeddings: a step touches few of the rows, and some of them often.
"""

import collections
import dataclasses
import keyword
import pathlib
import re
import sysconfig

import numpy as np

# What has to be skipped comes first, so that no identifier is seen inside of it.
_TOKEN = re.compile(
    r'''
      \#[^\n]*
    | [rbfuRBFU]{0,2} (?: """(?:[^\\]|\\.)*?""" | \'\'\'(?:[^\\]|\\.)*?\'\'\'
                        | "(?:[^"\\\n]|\\.)*"   | '(?:[^'\\\n]|\\.)*' )
    | \d\w*
    | ([^\W\d]\w*)
    ''',
    re.VERBOSE | re.DOTALL,
)
_INSTALLED_PACKAGES = {"site-packages", "dist-packages"}


def identifiers_of(source: str) -> list[str]:
    """Returns the identifiers of Python source text in order, without keywords.

    A regular expression instead of `tokenize`: ten times faster, the same words, and it
    also reads the files of the standard library's tests that are broken on purpose.
    """
    return [
        word for word in _TOKEN.findall(source) if word and not keyword.iskeyword(word)
    ]


def standard_library_files() -> list[pathlib.Path]:
    """Returns the `.py` files of the running Python's standard library, sorted."""
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    return sorted(
        path
        for path in root.rglob("*.py")
        if not _INSTALLED_PACKAGES.intersection(path.relative_to(root).parts)
    )


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Files as sequences of word ids.

    Attributes:
      words: The vocabulary; a word's place in it is its id. Most frequent first.
      counts: How often each word occurs, int64 [len(words)].
      files: One int32 array of word ids per source file.
    """

    words: list[str]
    counts: np.ndarray
    files: list[np.ndarray]

    @property
    def size(self) -> int:
        """The number of identifiers in all files together."""
        return int(self.counts.sum())

    def id_of(self, word: str) -> int | None:
        """Returns the id of a word, or None where the corpus lacks it."""
        return self.words.index(word) if word in self.words else None


def build_corpus(paths, progress=iter) -> Corpus:
    """Reads source files into a `Corpus`; the same files give the same ids.

    Args:
      paths: The files, in the order wanted.
      progress: Wraps the paths while they are read, for example `tqdm.tqdm`.
    """
    texts = [
        identifiers_of(path.read_text(encoding="utf-8", errors="replace"))
        for path in progress(paths)
    ]
    tally = collections.Counter(word for text in texts for word in text)
    ranked = sorted(tally.items(), key=lambda item: (-item[1], item[0]))
    words = [word for word, _ in ranked]
    ids = {word: i for i, word in enumerate(words)}
    return Corpus(
        words=words,
        counts=np.array([count for _, count in ranked], np.int64),
        files=[np.array([ids[word] for word in text], np.int32) for text in texts],
    )


@dataclasses.dataclass(frozen=True)
class Batch:
    """Positive pairs and the negatives of each center, all int32 word ids.

    Attributes:
      centers: [batch].
      contexts: [batch, 1 + negatives]; column 0 is the word that really occurs near the
        center, the others are drawn from the corpus at random.
    """

    centers: np.ndarray
    contexts: np.ndarray


class SkipGrams:
    """Draws batches of skip-grams with negative samples from a corpus.

    As in word2vec (Mikolov et al., 2013): very frequent words are thinned out, and
    negatives are drawn with the word counts to the power 0.75. A pair comes again only
    after `epoch_steps` batches, so until then the training loss of a batch is the loss
    on pairs not yet seen.

    Args:
      corpus: Where the words come from.
      batch_size: Pairs in a batch.
      negatives: Negative samples for each pair.
      window: Greatest distance of a context word from its center.
      thinning: Words more frequent than this are thinned out.
      seed: Equal seeds draw equal batches.
    """

    def __init__(
        self, corpus, batch_size=1024, negatives=8, window=5, thinning=1e-3, seed=0
    ):
        self._batch_size = batch_size
        self._negatives = negatives
        self._rng = np.random.default_rng(seed)
        self._noise = np.cumsum(corpus.counts**0.75)
        keep = np.minimum(1.0, np.sqrt(thinning * corpus.size / corpus.counts))
        pairs = []
        for file in corpus.files:
            file = file[self._rng.random(len(file)) < keep[file]]
            for distance in range(1, window + 1):
                near = np.stack([file[:-distance], file[distance:]], axis=1)
                pairs += [near, near[:, ::-1]]
        pairs = np.concatenate(pairs)
        if len(pairs) < batch_size:
            raise ValueError(
                f"corpus must give at least batch_size={batch_size} pairs. "
                f"Received: {len(pairs)}."
            )
        self._pairs = pairs[self._rng.permutation(len(pairs))]
        self._next = 0

    @property
    def epoch_steps(self) -> int:
        """The number of batches after which pairs come again."""
        return len(self._pairs) // self._batch_size

    def next_batch(self) -> Batch:
        """Returns the next batch."""
        rows = self._next % self.epoch_steps * self._batch_size
        self._next += 1
        pairs = self._pairs[rows : rows + self._batch_size]
        noise = self._rng.random((len(pairs), self._negatives)) * self._noise[-1]
        negatives = np.searchsorted(self._noise, noise, side="right")
        contexts = np.concatenate([pairs[:, 1:], negatives], axis=1)
        return Batch(np.ascontiguousarray(pairs[:, 0]), contexts.astype(np.int32))
