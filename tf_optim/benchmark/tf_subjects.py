"""Subjects that are `tf.keras` optimizers, ours and stock, in either flavour."""

import contextlib
import functools
import itertools
import time

import numpy as np
import tensorflow as tf

from tf_optim.benchmark.subjects import Subject, Unsupported
from tf_optim.benchmark.work import LEARNING_RATE

_CALL = 0.03  # seconds, beside which the time of the call itself is little


def gradients(inputs):
    """The gradients as tensors, held once for all subjects of the process.

    Every captured tensor is one more argument of a tf.function. Hundreds of the
    same shape are therefore one tensor here, to be taken apart inside.
    """
    if not hasattr(inputs, "tensors"):
        count = len(inputs.case.shapes)
        tensors = [tf.constant(inputs.gradient(i)) for i in range(count)]
        kinds = {
            (t.shape, t.dtype, inputs.case.shapes[i]) for i, t in enumerate(tensors)
        }
        alike = count > 1 and len(kinds) == 1
        inputs.tensors = tf.stack(tensors) if alike else tensors
    return inputs.tensors


def optimizer_class(namespace, name):
    """The optimizer `name` of a namespace.

    Raises:
      Unsupported: if there is none.
    """
    cls = getattr(namespace, name, None)
    if cls is None:
        raise Unsupported(f"has no {name}")
    return cls


def _of_step(gradients, step):
    """Both as they are, but nothing that XLA knows before the step.

    It would take out of the loop what depends on gradients alone: their norms.
    """
    from tensorflow.compiler.tf2xla.python import xla

    *gradients, step = xla.optimization_barrier(*gradients, step)
    return gradients, step


class TfSubject(Subject):
    """Variables, captured gradients, and a tf.function that makes steps in a loop.

    In training, too, the update stands inside the function of the whole step, and
    to call that from Python costs the same whatever the optimizer. With `jit` the
    whole loop is compiled.
    """

    jit = False

    def __init__(self, work, inputs):
        case = inputs.case
        count = len(case.shapes)
        self._case = case
        self.choose(work, case)
        self._variables = [tf.Variable(inputs.initial(i)) for i in range(count)]
        self.prepare(work)
        values = gradients(inputs)
        # Ids of many tables that have as many are one argument.
        stacked = len({case.ids_of(i) for i in case.tables}) == 1

        def update(*ids, step=None):
            ids = iter(tf.unstack(ids[0]) if stacked else ids)
            grads = tf.unstack(values) if tf.is_tensor(values) else list(values)
            if self.jit and step is not None:
                grads, step = _of_step(grads, step)
            for i in case.tables:
                shape = tf.constant(case.shapes[i])
                grads[i] = tf.IndexedSlices(grads[i], next(ids), shape)
            self.apply(grads)
            return step

        def batch(b):
            ids = [inputs.ids(i)[b] for i in case.tables]
            return tuple(map(tf.constant, [np.stack(ids)] if stacked else ids))

        batches = [batch(b) for b in range(case.batches)] if case.tables else [()]
        self._first, self._steps = 0, 1
        self._make_function(update, batches)

    def _make_function(self, update, batches):
        """Makes what `seconds` calls."""
        # One tensor per argument, with a first dimension of batches.
        arguments = [tf.stack(each) for each in zip(*batches, strict=True)]

        def body(i):
            ids = (argument[i % len(batches)] for argument in arguments)
            return (update(*ids, step=i) + 1,)

        def loop(first, end):
            tf.while_loop(lambda i: i < end, body, [first], parallel_iterations=1)

        number = tf.TensorSpec([], tf.int64)
        function = tf.function(loop, autograph=False, jit_compile=self.jit or None)
        self._loop = function.get_concrete_function(number, number)

    def choose(self, work, case):
        """Finds the optimizer before any memory is taken; may be Unsupported."""
        self._cls = optimizer_class(tf.keras.optimizers, work.optimizer)

    def prepare(self, work):
        """Makes optimizer and slots for `self._variables`."""
        self._optimizer = self._cls(LEARNING_RATE, **work.options)
        self._optimizer.build(self._variables)

    def apply(self, grads):
        """Applies the gradients, inside of the tf.function."""
        self._optimizer.apply_gradients(zip(grads, self._variables, strict=True))

    def step(self):
        self._make_steps(1)

    def _make_steps(self, count):
        """Makes the next `count` steps; returns how long they took."""
        end = self._first + count
        bounds = [tf.constant(i, tf.int64) for i in (self._first, end)]
        start = time.perf_counter()
        self._loop(*bounds)
        taken = time.perf_counter() - start
        self._first = end % self._case.batches
        return taken

    def tune(self):
        """Settles how many steps one call of the loop takes."""
        while min(self._make_steps(self._steps) for _ in range(3)) < _CALL:
            self._steps *= 2

    def seconds(self):
        return self._make_steps(self._steps) / self._steps

    def read(self, i, positions):
        variable = self._variables[i]
        if not self._case.ids_of(i):
            variable = tf.reshape(variable, [-1])
        return tf.gather(variable, positions).numpy().astype(np.float64)


class Called:
    """Mixed in: a function of nothing but the update, called from Python for each
    step as users call it, who write `@tf.function`."""

    def _make_function(self, update, batches):
        self._batches = itertools.cycle(batches)
        self._update = tf.function(
            update, autograph=False, jit_compile=self.jit or None
        )

    def _make_steps(self, count):
        start = time.perf_counter()
        for _ in range(count):
            self._update(*next(self._batches))
        return time.perf_counter() - start

    def tune(self):
        """There is nothing to settle."""


class Keras(TfSubject):
    """The stock optimizer of this process's flavour of tf.keras."""

    def prepare(self, work):
        self.slot_item = self._variables[0].dtype.size
        super().prepare(work)


class KerasJit(Keras):
    jit = True


class KerasFunction(Called, Keras):
    pass


class KerasJitFunction(Called, KerasJit):
    pass


def legacy_class(work):
    """tf_keras' optimizer of before 2.11.

    Raises:
      Unsupported: if there is none.
    """
    cls = optimizer_class(tf.keras.optimizers.legacy, work.optimizer)
    if work.optimizer == "Nadam":  # where 0.004 was the default, as nowhere else
        cls = functools.partial(cls, schedule_decay=1.0)
    return cls


class KerasLegacy(TfSubject):
    """tf_keras' optimizers of before 2.11, mostly on TensorFlow's raw ops."""

    def choose(self, work, case):
        self._cls = legacy_class(work)
        # All but Adam leave the rows alone that no id names.
        self.lazy = work.optimizer != "Adam"

    def prepare(self, work):
        self.slot_item = self._variables[0].dtype.size
        self._optimizer = self._cls(LEARNING_RATE, **work.options)
        self._optimizer._create_all_weights(self._variables)


class LegacyFunction(Called, KerasLegacy):
    pass


def our_class(work):
    """The package's own optimizer.

    Raises:
      Unsupported: if there is none.
    """
    import tf_optim

    return optimizer_class(tf_optim, work.optimizer)


@contextlib.contextmanager
def missing_xla_kernels_are_unsupported():
    """Turns what TensorFlow says about an op that XLA does not know."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        if "unsupported operations" in str(error) or "XLA_CPU_JIT" in str(error):
            raise Unsupported("has no XLA kernels in this build") from error
        raise


class Ours(TfSubject):
    ours = True
    lazy = True

    def choose(self, work, case):
        self._cls = our_class(work)


class OursFunction(Called, Ours):
    pass


class OursConcrete(Called, Ours):
    """The same, called as a concrete function.

    To find it by the arguments of a tf.function takes 0.1 to 0.3 ms more.
    """

    def _make_function(self, update, batches):
        super()._make_function(update, batches)
        self._update = self._update.get_concrete_function(*batches[0])


class OursShortSlots(OursFunction):
    """Beside peers whose slots have the 2 bytes of a bfloat16 variable.

    They are rounded, so that it is looked at as a peer is.
    """

    ours = False
    slot_item = 2
    note = "slots of 2 bytes"

    def choose(self, work, case):
        if case.dtype != "bfloat16":
            raise Unsupported("is measured on bfloat16 variables only")
        self._cls = functools.partial(our_class(work), slot_dtype="bfloat16")


class OursAfterLookup(OursFunction):
    """Called when the rows have just been looked up, as training has it.

    What is looked up is not used. The lookup is not timed.
    """

    def _make_function(self, update, batches):
        super()._make_function(update, batches)

        def lookup(*ids):
            ids = iter(tf.unstack(ids[0]) if ids[0].shape.rank == 2 else ids)
            tables = [self._variables[i] for i in self._case.tables]
            return [tf.gather(table, next(ids)) for table in tables]

        self._lookup = tf.function(lookup, autograph=False)
        self._rows = None

    def before(self):
        self._next = next(self._batches)
        self._rows = self._lookup(*self._next)

    def step(self):
        self._update(*self._next)

    def seconds(self):
        return Subject.seconds(self)


class OursJit(Ours):
    jit = True

    def _make_steps(self, count):
        with missing_xla_kernels_are_unsupported():
            return super()._make_steps(count)


class OursDenseUpdate(Ours):
    """The same mathematics as stock: every row of the table decays."""

    lazy = False

    def choose(self, work, case):
        if not case.tables:
            raise Unsupported("is the same as ours without tables")
        self._cls = functools.partial(our_class(work), sparse_update="dense")


class OursDenseFunction(Called, OursDenseUpdate):
    pass


class OursPerTable(Ours):
    """What the list op saves: an op, and an optimizer, for every table."""

    def choose(self, work, case):
        super().choose(work, case)
        if len(case.shapes) == 1:
            raise Unsupported("is the same as ours on a single table")

    def prepare(self, work):
        self._optimizers = []
        for variable in self._variables:
            self._optimizers.append(self._cls(LEARNING_RATE, **work.options))
            self._optimizers[-1].build([variable])

    def apply(self, grads):
        trio = zip(self._optimizers, grads, self._variables, strict=True)
        for optimizer, grad, variable in trio:
            optimizer.apply_gradients([(grad, variable)])
