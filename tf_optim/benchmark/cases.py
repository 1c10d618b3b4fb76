"""The cases: what is updated, and with which gradients.

A case says shapes, dtype and how ids are drawn. `Inputs` makes the arrays, from
one seed, so that every worker process gets the same.
"""

import dataclasses
import functools

import numpy as np

# Initial values and gradients repeat this many random numbers; a prime, so that
# rows of a table differ.
_PATTERN = 1_000_003
# Batches of ids a sparse case cycles through. The rows of all of them together
# are larger than a CPU's last cache.
BATCHES = 64


@dataclasses.dataclass(frozen=True)
class Case:
    """One workload.

    Attributes:
      name: what `--case` takes.
      title: what the table prints.
      kind: "dense", "sparse" (every variable is a table of rows), "fit" or "own"
        (a user's variables, some of which may be tables).
      shapes: the shapes of the variables.
      dtype: of variables and gradients.
      ids: sparse: rows of the gradient per table.
      each_dtype: own: of each variable and its gradient.
      each_ids: own: rows of the gradient of each variable, 0 where it is dense.
      zipf: sparse: exponent of the distribution of ids; None is uniform.
      variants: whether `--full` runs every optimizer in it, with all its options.
      optimizers: names of those it is run for when none is named; () for all.
      quick: whether `--quick` runs it when no case is named.
      batches: sparse: batches of ids that the steps of a loop cycle through, so
        many that their rows together do not stay in a cache.
    """

    name: str
    title: str
    kind: str
    shapes: tuple
    dtype: str = "float32"
    ids: int = 0
    zipf: float | None = None
    variants: bool = False
    optimizers: tuple = ()
    quick: bool = False
    batches: int = BATCHES
    each_dtype: tuple = ()
    each_ids: tuple = ()

    def dtype_of(self, i):
        """The dtype of variable i."""
        return self.each_dtype[i] if self.each_dtype else self.dtype

    def ids_of(self, i):
        """Rows of the gradient of variable i; 0 where it is dense."""
        if self.each_ids:
            return self.each_ids[i]
        return 0 if self.kind in ("dense", "own") else self.ids

    @property
    def tables(self):
        """The variables whose gradients name rows."""
        return [i for i in range(len(self.shapes)) if self.ids_of(i)]

    @property
    def numbers(self):
        """Parameters of all variables together."""
        return sum(int(np.prod(shape)) for shape in self.shapes)


def _resnet50():
    """Convolutions, batch norms and the classifier of ResNet-50."""
    shapes = [(7, 7, 3, 64), (64,), (64,)]
    fan_in = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            out = 4 * width
            convolutions = [(1, 1, fan_in, width), (3, 3, width, width)]
            convolutions.append((1, 1, width, out))
            if block == 0:
                convolutions.append((1, 1, fan_in, out))
            for shape in convolutions:
                shapes += [shape, shape[-1:], shape[-1:]]
            fan_in = out
    return tuple(shapes + [(2048, 1000), (1000,)])


def _bert_base():
    """Embeddings, 12 layers and the pooler of BERT-base."""
    d = 768
    shapes = [(30522, d), (512, d), (2, d), (d,), (d,)]
    for _ in range(12):
        shapes += [(d, d), (d,)] * 4 + [(d,), (d,)]
        shapes += [(d, 4 * d), (4 * d,), (4 * d, d), (d,), (d,), (d,)]
    return tuple(shapes + [(d, d), (d,)])


# Cardinalities of the 26 features of Criteo's display advertising challenge,
# capped so that a table and its slots fit into a small machine.
_CRITEO = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593,
    3194, 27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105,
    142572,
)  # fmt: skip
_CRITEO_CAP = 1_000_000
_EMBEDDING = ((1_000_000, 64),)
# Those of Keras, and one more, are measured on one large variable and on one large
# table; --full measures all. Where the question is another (how lists, rows or a
# model add up), a few will do.
_MAIN = (
    "SGD", "RMSprop", "Adagrad", "RowWiseAdagrad", "Adadelta", "Adam", "AdamW",
    "Adamax", "Nadam", "Ftrl", "Lion", "Lamb",
)  # fmt: skip
# Lamb because its norms are per variable; SGD, Adagrad because torch's are fast.
_LISTS = ("SGD", "RMSprop", "Adagrad", "RowWiseAdagrad", "Adam", "Lamb")
_SMALL = ("SGD", "RMSprop", "Adam", "Lamb")
_TABLES = ("RMSprop", "RowWiseAdagrad", "Adam")  # the middle one as FBGEMM's best
_FEW = ("RMSprop", "Adam")
_MANY_TABLES = ("RowWiseAdagrad", "Adam")


def _growth(name, rows):
    return Case(
        name=f"growth-{name}",
        title=f"8,192 ids into {rows:,} x 16",
        kind="sparse",
        shapes=((rows, 16),),
        ids=8192,
        optimizers=_MANY_TABLES,
    )


CASES = (
    Case(
        name="dense",
        title="one variable of 16.8M float32",
        kind="dense",
        shapes=((4096, 4096),),
        variants=True,
        optimizers=_MAIN,
        quick=True,
    ),
    Case(
        name="many-small",
        title="300 variables of 256 float32",
        kind="dense",
        shapes=((256,),) * 300,
        optimizers=_SMALL,
    ),
    Case(
        name="resnet50",
        title="the shapes of ResNet-50, 25.6M float32",
        kind="dense",
        shapes=_resnet50(),
        optimizers=_LISTS,
    ),
    Case(
        name="bert-base",
        title="the shapes of BERT-base, 109M float32",
        kind="dense",
        shapes=_bert_base(),
        optimizers=_FEW,
    ),
    Case(
        name="bf16",
        title="one variable of 16.8M bfloat16",
        kind="dense",
        shapes=((4096, 4096),),
        dtype="bfloat16",
        optimizers=_FEW,
    ),
    Case(
        name="sparse-uniform",
        title="8,192 uniform ids into 1M x 64",
        kind="sparse",
        shapes=_EMBEDDING,
        ids=8192,
        variants=True,
        optimizers=_MAIN,
        quick=True,
    ),
    Case(
        name="sparse-zipf",
        title="8,192 Zipf(1.2) ids into 1M x 64",
        kind="sparse",
        shapes=_EMBEDDING,
        ids=8192,
        zipf=1.2,
        optimizers=_TABLES,
        batches=512,  # the rows of 64 take 30 MB
    ),
    _growth("100k", 100_000),
    _growth("1m", 1_000_000),
    _growth("10m", 10_000_000),
    Case(
        name="tables-26",
        title="26 tables of Criteo's sizes x 16, 2,048 ids each",
        kind="sparse",
        shapes=tuple((min(rows, _CRITEO_CAP), 16) for rows in _CRITEO),
        ids=2048,
        optimizers=_MANY_TABLES,
    ),
    Case(
        name="fit",
        title="model.fit: 256 x 32 Zipf(1.2) ids into 1M x 64, two dense layers",
        kind="fit",
        shapes=_EMBEDDING,
        ids=256 * 32,
        zipf=1.2,
        optimizers=_FEW,
    ),
)


def select(names, quick=False):
    """The cases that `names` name, exactly or as "growth" names growth-100k.

    Raises:
      ValueError: for a name that names nothing.
    """
    if not names:
        return [case for case in CASES if case.quick or not quick]
    chosen = []
    for name in names:
        found = [c for c in CASES if c.name == name or c.name.startswith(name + "-")]
        if not found:
            known = ", ".join(case.name for case in CASES)
            raise ValueError(f"case must be one of {known}. Received: {name}.")
        chosen += [case for case in found if case not in chosen]
    return chosen


class Inputs:
    """The arrays of a case, the same in every process.

    Args:
      case: a `Case`.
      seed: of all random numbers.
    """

    def __init__(self, case, seed=0):
        self.case = case
        self.seed = seed
        self.wanted = {}  # what subjects are compared with; see check.py

    @functools.cached_property
    def _pattern(self):
        rng = np.random.default_rng(self.seed)
        return rng.standard_normal(_PATTERN, np.float32)

    def _filled(self, count, start, factor):
        """`count` numbers of the pattern from `start` on, times `factor`."""
        start %= _PATTERN
        rounds = -(-(start + count) // _PATTERN)
        whole = np.tile(self._pattern * np.float32(factor), rounds)
        return whole[start : start + count]

    def _cast(self, array, i):
        dtype = self.case.dtype_of(i)
        if dtype == "float32":
            return array
        import ml_dtypes

        return array.astype(getattr(ml_dtypes, dtype))

    def initial(self, i):
        """The initial value of variable i."""
        shape = self.case.shapes[i]
        return self._cast(
            self._filled(int(np.prod(shape)), 7919 * i, 0.05).reshape(shape), i
        )

    def gradient(self, i):
        """The gradient of variable i: dense, or the rows at `indices(i)`."""
        shape = self.case.shapes[i]
        if self.case.ids_of(i):
            shape = (self.case.ids_of(i),) + shape[1:]
        return self._cast(
            self._filled(int(np.prod(shape)), 104729 * (i + 1), 1.0).reshape(shape), i
        )

    @functools.cache  # noqa: B019 - lives as long as its case
    def ids(self, i):
        """Batches of ids into table i: int64 [case.batches, case.ids_of(i)]."""
        rows = self.case.shapes[i][0]
        rng = np.random.default_rng((self.seed, i))
        shape = (self.case.batches, self.case.ids_of(i))
        if self.case.zipf is None:
            return rng.integers(0, rows, shape)
        weights = np.arange(1, rows + 1, dtype=np.float64) ** -self.case.zipf
        cumulative = np.cumsum(weights)
        ranks = np.searchsorted(cumulative, rng.random(shape) * cumulative[-1])
        # Popular ids are anywhere in the table, as hashed ids are.
        return rng.permutation(rows)[np.minimum(ranks, rows - 1)]
