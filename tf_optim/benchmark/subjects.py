"""The subjects: everything a user could update variables with.

A subject is a small adapter. The table at the end says in which kind of worker
process each lives and which class adapts it; the classes' modules import their
framework, so they are loaded by the worker only.
"""

import abc
import ctypes.util
import dataclasses
import importlib
import time

from tf_optim.benchmark import check, traffic


class Unsupported(Exception):
    """The subject has no such update; the message says why."""


class NotInstalled(Exception):
    """What the subject needs is not on this machine; the message says what."""


def passes(work):
    """How many passes a step takes: two where each number's depends on all."""
    return 2 if check.reach(work) == "variable" else 1


def check_has_options(subject, work):
    """Raises Unsupported for a peer if the work has an option that is ours alone."""
    if work.options.get("cautious") and not subject.startswith((OURS, LIMIT)):
        raise Unsupported("has no cautious steps")


class Subject(abc.ABC):
    """One way to make the steps of a `Work`, ready to step when constructed.

    Attributes:
      ours: must agree with the float64 reference, or gets no time.
      lazy: a sparse step leaves rows alone that no id names.
      slot_item: bytes of a number of a slot, where not those of the variable's
        computation type.
      steps_per_call: steps that one call of `step` makes.
      note: what a reader of its figure has to know.
    """

    ours = False
    lazy = False
    slot_item = 4
    steps_per_call = 1
    note = ""

    def before(self):  # noqa: B027 - most have nothing to do
        """What training has done before the step: never timed."""

    @abc.abstractmethod
    def step(self):
        """Makes one step, and returns when it is done."""

    @abc.abstractmethod
    def read(self, i, positions):
        """Variable i at flat positions (dense) or rows (tables)."""

    def make_step(self):
        """One step and what is before it."""
        self.before()
        self.step()

    def bytes_moved(self, work, inputs):
        """The least that one step has to move; None where that means nothing."""
        return traffic.case_bytes(
            inputs,
            work.full_slots,
            len(work.row_slots),
            self.slot_item,
            passes=passes(work),
        )

    def tune(self):  # noqa: B027 - most have nothing to settle
        """Settles what is the fastest on this machine, before any timing.

        Nothing else runs meanwhile.
        """

    def seconds(self):
        """Makes one step and returns how long it took."""
        self.before()
        start = time.perf_counter()
        self.step()
        return (time.perf_counter() - start) / self.steps_per_call


# The ways to make a step. Only what goes one way is compared.
LOOP = "loop"  # steps in a loop inside of one function, or of one epoch
CALL = "call"  # a call from Python for each step
LOOKUP = "lookup"  # the same, when the rows have just been looked up


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table of subjects.

    Attributes:
      name: what the table prints and `--subject` takes.
      worker: the kind of process it lives in; see `WORKERS`.
      adapter: "module:class", in this package.
      way: LOOP, CALL or LOOKUP.
      kinds: of the cases it takes part in.
    """

    name: str
    worker: str
    adapter: str
    way: str = LOOP
    kinds: tuple = ("dense", "sparse", "own")

    def load(self):
        module, name = self.adapter.split(":")
        return getattr(importlib.import_module(f"{__package__}.{module}"), name)


def _preloaded():
    """The allocator that torch's guide to tuning recommends, where it is installed."""
    found = map(ctypes.util.find_library, ("tcmalloc_minimal", "tcmalloc", "jemalloc"))
    return next(filter(None, found), None)


ALLOCATOR = _preloaded()
# Environment of each kind of worker, and whether it may import TensorFlow.
WORKERS = {
    "keras3": {"env": {"TF_USE_LEGACY_KERAS": "0"}, "tensorflow": True},
    "tf_keras": {"env": {"TF_USE_LEGACY_KERAS": "1"}, "tensorflow": True},
    "torch": {"env": {}, "tensorflow": False},
    "torch, allocator": {
        "env": {"LD_PRELOAD": ALLOCATOR} if ALLOCATOR else {},
        "tensorflow": False,
    },
    "limit": {"env": {}, "tensorflow": False},
}

OURS = "ours"
OURS_DENSE = "ours, dense update"
OURS_FUNCTION = "ours, function"
OURS_DENSE_FUNCTION = "ours, dense update function"
OURS_LOOKUP = "ours, after lookup"
LIMIT = "limit"
_DENSE = ("dense", "own")
_TABLES = ("sparse",)
_FIT = ("fit",)

SUBJECTS = (
    Entry(OURS, "keras3", "tf_subjects:Ours"),
    Entry("ours jit", "keras3", "tf_subjects:OursJit"),
    Entry(OURS_DENSE, "keras3", "tf_subjects:OursDenseUpdate", kinds=("sparse", "own")),
    Entry("ours, op per table", "keras3", "tf_subjects:OursPerTable", kinds=_TABLES),
    Entry("keras3 graph", "keras3", "tf_subjects:Keras"),
    Entry("keras3 jit", "keras3", "tf_subjects:KerasJit"),
    Entry("tf raw op", "keras3", "raw_ops:RawOp", kinds=("dense", "sparse")),
    Entry("tf lazy recipe", "keras3", "lazy_recipes:LazyRecipe", kinds=_TABLES),
    Entry("tf_keras", "tf_keras", "tf_subjects:Keras"),
    Entry("tf_keras legacy", "tf_keras", "tf_subjects:KerasLegacy"),
    Entry(OURS_FUNCTION, "keras3", "tf_subjects:OursFunction", CALL),
    Entry(
        OURS_DENSE_FUNCTION,
        "keras3",
        "tf_subjects:OursDenseFunction",
        CALL,
        ("sparse", "own"),
    ),
    Entry("ours, concrete", "keras3", "tf_subjects:OursConcrete", CALL),
    Entry(
        "ours, bfloat16 slots",
        "keras3",
        "tf_subjects:OursShortSlots",
        CALL,
        ("dense",),
    ),
    Entry("keras3 function", "keras3", "tf_subjects:KerasFunction", CALL, _DENSE),
    Entry(
        "keras3 jit function", "keras3", "tf_subjects:KerasJitFunction", CALL, _DENSE
    ),
    Entry(
        "tf raw op function",
        "keras3",
        "raw_ops:RawOpFunction",
        CALL,
        ("dense", "sparse"),
    ),
    Entry(
        "tf lazy recipe function",
        "keras3",
        "lazy_recipes:LazyRecipeFunction",
        CALL,
        _TABLES,
    ),
    Entry("tf_keras function", "tf_keras", "tf_subjects:KerasFunction", CALL, _DENSE),
    Entry("tf_keras legacy function", "tf_keras", "tf_subjects:LegacyFunction", CALL),
    Entry("torch for-loop", "torch", "torch_subjects:ForLoop", CALL, _DENSE),
    Entry("torch foreach", "torch", "torch_subjects:Foreach", CALL, _DENSE),
    Entry("torch fused", "torch", "torch_subjects:Fused", CALL, _DENSE),
    Entry("torch compile", "torch", "torch_subjects:Compiled", CALL, _DENSE),
    Entry(
        "torch foreach, allocator",
        "torch, allocator",
        "torch_subjects:ForeachWithAllocator",
        CALL,
        ("dense",),
    ),
    Entry("torch sparse", "torch", "torch_subjects:Sparse", CALL, ("sparse", "own")),
    Entry(
        "torch sparse, coalesced", "torch", "torch_subjects:Coalesced", CALL, _TABLES
    ),
    Entry(OURS_LOOKUP, "keras3", "tf_subjects:OursAfterLookup", LOOKUP, _TABLES),
    Entry(
        "torch sparse, after lookup",
        "torch",
        "torch_subjects:SparseAfterLookup",
        LOOKUP,
        _TABLES,
    ),
    Entry("fbgemm", "torch", "fbgemm_subjects:Backward", LOOKUP, _TABLES),
    Entry("fbgemm op", "torch", "fbgemm_subjects:Op", LOOKUP, _TABLES),
    Entry(OURS, "keras3", "fit_subjects:Ours", kinds=_FIT),
    Entry("ours jit", "keras3", "fit_subjects:OursJit", kinds=_FIT),
    Entry(OURS_DENSE, "keras3", "fit_subjects:OursDenseUpdate", kinds=_FIT),
    Entry("keras3 graph", "keras3", "fit_subjects:Keras", kinds=_FIT),
    Entry("keras3 jit", "keras3", "fit_subjects:KerasJit", kinds=_FIT),
    Entry("tf_keras", "tf_keras", "fit_subjects:Keras", kinds=_FIT),
    Entry("tf_keras legacy", "tf_keras", "fit_subjects:KerasLegacy", kinds=_FIT),
    Entry(LIMIT, "limit", "limits:Limit"),
)

# What each way is compared with, where no row moves that has no gradient, or
# every subject leaves it alone; and else.
_BASES = {
    LOOP: (OURS, OURS_DENSE),
    CALL: (OURS_FUNCTION, OURS_DENSE_FUNCTION),
    LOOKUP: (OURS_LOOKUP, None),
}


def base(way, whole_table):
    """The subject of ours that makes the same step in the same way, or None.

    Args:
      way: LOOP, CALL or LOOKUP.
      whole_table: whether the step moves rows that have no gradient.
    """
    return _BASES[way][whole_table]


def names():
    return list(dict.fromkeys(entry.name for entry in SUBJECTS))


def find(name, kind):
    return next(e for e in SUBJECTS if e.name == name and kind in e.kinds)


def always(entries):
    """Names of what is timed in the same rounds as `entries`: the limit, and what
    they are compared with."""
    bases = [name for entry in entries for name in _BASES[entry.way]]
    return {OURS, LIMIT, *filter(None, bases)}


def select(wanted, kind):
    """The entries for a kind of case; ours and the limit are always among them.

    Raises:
      ValueError: for a name that is no subject's.
    """
    for name in wanted:
        if name not in names():
            raise ValueError(
                f"subject must be one of {', '.join(names())}. Received: {name}."
            )
    mine = [entry for entry in SUBJECTS if kind in entry.kinds]
    if not wanted:
        return mine
    kept = {*wanted, *always(e for e in mine if e.name in wanted)}
    return [entry for entry in mine if entry.name in kept]
