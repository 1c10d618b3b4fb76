"""Random whole programs: an optimizer, its variables and some steps, run and judged.

The oracle of each step is tf_optim/reference.py on the state before it; of a step
in which something is wrong it is an error, and nothing changed.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tests import cases, flavours, models, numerics
from tests.fuzz_oracle import Failure, Oracle, Snapshot

ERRORS = (tf.errors.OpError, ValueError, TypeError)
# XLA cannot raise: it drops such rows.
DROPPED_BY_XLA = ("id too large", "negative id")


@dataclasses.dataclass(frozen=True)
class Gradient:
    """A gradient of one variable in one step.

    Attributes:
      kind: "none", "dense" or "sparse".
      seed: what its values are made from.
      ids: of a sparse one.
      index_dtype: of its ids.
      special: a number that stands in its first element, or None.
    """

    kind: str = "dense"
    seed: int = 0
    ids: tuple = ()
    index_dtype: str = "int64"
    special: float | None = None


@dataclasses.dataclass(frozen=True)
class Program:
    """What a user would write.

    Attributes:
      case: the optimizer and its own options.
      mode: `sparse_update`.
      rates: the learning rate of each step; empty: a schedule.
      options: Keras' arguments, as a dict.
      bound: a constraint keeps the variables within it; or None.
      shapes, dtypes: of the variables.
      positive: gradients are above 0, so that no sum of them is.
      way: "eager", "function" or "jit".
      static: whether a function knows the shapes of its gradients.
      steps: for each step a `Gradient` for each variable.
      wrong: what is wrong, and with which step and variable: `(name, i, j)`; or None.
    """

    case: cases.Case
    mode: str
    rates: tuple
    options: dict
    bound: float | None
    shapes: tuple
    dtypes: tuple
    positive: bool
    way: str
    static: bool
    steps: tuple
    wrong: tuple | None

    def values(self, seed, shape):
        """Quarters: their sums are exact, in any order and in 16 bits."""
        rng = np.random.default_rng(seed)
        drawn = rng.integers(1 if self.positive else -8, 9, size=shape) / 4.0
        return np.ones(shape) if seed == 0 else np.asarray(drawn)

    def arrays(self, i, j):
        """`(values, ids)` of a gradient, both as they should be; ids may be None."""
        gradient, shape = self.steps[i][j], self.shapes[j]
        if gradient.kind == "none":
            return None, None
        ids = None
        if gradient.kind == "sparse":
            ids = np.array(gradient.ids, gradient.index_dtype)
            shape = (len(ids), *shape[1:])
        values = self.values(gradient.seed, shape)
        if gradient.special is not None and values.size:
            values.flat[0] = gradient.special
        return values.astype(numerics.numpy_dtype(self.dtypes[j])), ids

    def spoiled(self, i, j):
        """`arrays`, with what is wrong in it."""
        values, ids = self.arrays(i, j)
        if self.wrong is None or self.wrong[1:] != (i, j):
            return values, ids
        return WRONG[self.wrong[0]](values, ids, self.shapes[j])

    @property
    def wrong_step(self):
        """The step that must fail, or None."""
        if self.wrong is None:
            return None
        dropped = self.way == "jit" and self.wrong[0] in DROPPED_BY_XLA
        return None if dropped else self.wrong[1]


def _one_more(id_of):
    """An id that the variable does not have, with its row; `id_of(rows)`."""

    def spoil(values, ids, shape):
        row = np.ones((1, *shape[1:]), values.dtype)
        wrong = ids.dtype.type(id_of(shape[0]))
        return np.concatenate([values, row]), np.append(ids, wrong)

    return spoil


WRONG = {
    "id too large": _one_more(lambda rows: rows),
    "negative id": _one_more(lambda rows: -1),
    "fewer values": lambda values, ids, shape: (values[:-1], ids),
    "row shape": lambda values, ids, shape: (values[..., None], ids),
    "ids of rank 2": lambda values, ids, shape: (values, ids[None]),
    "rank": lambda values, ids, shape: (values[None], ids),
    "shape": lambda values, ids, shape: (np.concatenate([values, values[:1]]), ids),
    "text": lambda values, ids, shape: (np.full(values.shape, "a", object), ids),
}
OF_SPARSE = (
    "id too large",
    "negative id",
    "fewer values",
    "row shape",
    "ids of rank 2",
)
OF_DENSE = ("rank", "shape", "text")


def can_be(wrong, gradient, shape):
    """Whether the wrong thing can be made of a gradient."""
    if gradient.kind == "sparse":
        return wrong in OF_SPARSE and (wrong != "fewer values" or len(gradient.ids) > 0)
    if gradient.kind == "dense":
        return wrong in OF_DENSE and (wrong != "shape" or (shape and shape[0] > 0))
    return False


def schedule():
    """The learning rate of a program that has no `rates`."""
    return tf.keras.optimizers.schedules.ExponentialDecay(0.125, 2, 0.5)


def tensors(values, ids, shape):
    """A gradient as `apply_gradients` takes it."""
    if values is None:
        return None
    if ids is None:
        return tf.constant(values)
    dense_shape = tf.constant(shape, tf.int64)
    return tf.IndexedSlices(tf.constant(values), tf.constant(ids), dense_shape)


def _signature(gradient):
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        return (
            tf.TensorSpec(None, gradient.values.dtype),
            tf.TensorSpec(None, gradient.indices.dtype),
        )
    return tf.TensorSpec(None, gradient.dtype)


def _stepper(program, optimizer, var_list):
    """A function of a step's gradients."""

    def apply(gradients):
        optimizer.apply_gradients(zip(gradients, var_list, strict=True))

    if program.way == "eager":
        return apply
    jit = program.way == "jit"
    if jit or program.static:
        return tf.function(apply, jit_compile=jit)
    traced = {}

    def apply_parts(*parts):
        shapes = program.shapes
        apply(
            [
                tf.IndexedSlices(*part, tf.constant(shape, tf.int64))
                if isinstance(part, tuple)
                else part
                for part, shape in zip(parts, shapes, strict=True)
            ]
        )

    def step(gradients):
        key = tuple(map(_signature, gradients))
        if key not in traced:
            known = [part for part in key if part is not None]
            traced[key] = tf.function(
                lambda *given: apply_parts(*_with_nones(given, key)),
                input_signature=known,
            )
        parts = [
            (g.values, g.indices) if isinstance(g, tf.IndexedSlices) else g
            for g in gradients
            if g is not None
        ]
        traced[key](*parts)

    return step


def _with_nones(given, key):
    given = iter(given)
    return [None if part is None else next(given) for part in key]


def prepare(program):
    """The program's variables, optimizer and function of a step."""
    bound = program.bound
    constraint = bound and (lambda v: tf.clip_by_value(v, -bound, bound))
    var_list = [
        tf.Variable(
            program.values(100 + j, shape), dtype=dtype, constraint=constraint or None
        )
        for j, (shape, dtype) in enumerate(
            zip(program.shapes, program.dtypes, strict=True)
        )
    ]
    optimizer = models.ours(
        program.case,
        program.rates[0] if program.rates else schedule(),
        sparse_update=program.mode,
        **program.options,
    )
    optimizer.build(var_list)
    return var_list, optimizer, _stepper(program, optimizer, var_list)


def run(program):
    """Runs a program.

    Raises:
      Failure: if a step is not what the oracle says.
    """
    var_list, optimizer, step = prepare(program)
    oracle = Oracle(program, None if program.rates else schedule())
    for i in range(len(program.steps)):
        if program.rates:
            optimizer.learning_rate = program.rates[i]
        before = Snapshot(program.case, var_list, optimizer)
        count = range(len(var_list))
        none = all(gradient.kind == "none" for gradient in program.steps[i])
        must_fail = i == program.wrong_step or none
        try:
            gradients = [
                tensors(*program.spoiled(i, j), program.shapes[j]) for j in count
            ]
            step(gradients)
        except ERRORS as error:
            if not must_fail:
                raise Failure(
                    "an error", i, f"{type(error).__name__}: {error}"
                ) from error
            after = Snapshot(program.case, var_list, optimizer)
            if after.bytes != before.bytes:
                raise Failure(
                    "an error, and yet something changed",
                    i,
                    f"{after.changed_since(before)}, although {error}",
                ) from error
            continue
        if must_fail:
            raise Failure("no error", i, f"wrong: {program.wrong or 'no gradients'}")
        oracle.check(i, before, Snapshot(program.case, var_list, optimizer))


FLAVOUR = "tf_keras" if flavours.LEGACY else "Keras 3"
