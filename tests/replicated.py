"""What the children of the tests of synchronous strategies run.

Every replica has gradients of its own, with ids that occur twice in one replica's
and in several replicas'. On one device the same step is the sum of them all.
"""

import collections
import contextlib
import functools
import json
import os

import numpy as np
import tensorflow as tf

import tf_optim
from tests import flavours, models, nodes
from tf_optim import keras_private

ROWS = 20
SHAPES = ((ROWS, 4), (3, 2), (5,))  # the first is a table
REPLICAS = 2


@functools.cache  # a process has one
def strategy(kind):
    if kind == "one device":
        return tf.distribute.get_strategy()
    if kind == "multi-worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    tf.config.set_logical_device_configuration(cpu, halves)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])


def gradients(step, replica):
    """Ids and rows of the table's gradient, and the dense gradients."""
    rng = np.random.default_rng([step, replica])
    ids = np.array([1, 1, 2 + replica, 3, rng.integers(ROWS)], np.int64)
    rows = rng.normal(size=(len(ids), SHAPES[0][1])).astype("float32")
    return ids, rows, *(rng.normal(size=s).astype("float32") for s in SHAPES[1:])


def _on_one_device(step):
    ids, rows, *dense = zip(*(gradients(step, r) for r in range(REPLICAS)), strict=True)
    dense = [functools.reduce(np.add, each) for each in dense]
    return np.concatenate(ids), np.concatenate(rows), *dense


def _inputs(kind, step):
    if kind == "one device":
        return _on_one_device(step)
    return tuple(
        strategy(kind).experimental_distribute_values_from_function(
            lambda context, i=i: gradients(step, context.replica_id_in_sync_group)[i]
        )
        for i in range(1 + len(SHAPES))
    )


def _sum_into_table(ids, rows):
    return tf.math.unsorted_segment_sum(rows, ids, ROWS)


_SCALE = {"initial_scale": 1.0}
if flavours.LEGACY:
    _SCALE["dynamic"] = False


class Training:
    """An optimizer of some variables, and its step under a strategy."""

    def __init__(
        self,
        kind,
        make,
        case,
        sparse=True,
        scaled_by=None,
        reads=False,
        builds=True,
        **arguments,
    ):
        self.kind, self.sparse, self.reads = kind, sparse, reads
        with strategy(kind).scope():
            self.variables = models.variables(SHAPES)
            self.optimizer = getattr(models, make)(case, **arguments)
            if scaled_by is not None:
                wrappers = {
                    "stock": tf.keras.mixed_precision.LossScaleOptimizer,
                    "ours": tf_optim.LossScaleOptimizer,
                }
                self.optimizer = wrappers[scaled_by](self.optimizer, **_SCALE)
            if builds:  # and not the first step
                self.optimizer.build(self.variables)
        self.step = tf.function(self._step)

    def _apply(self, *inputs):
        # Made on the replica's device, as gradients are.
        ids, rows, *dense = (tf.identity(each) for each in inputs)
        if self.reads:
            first = self._of_rows_read(ids, rows)
        elif self.sparse:
            first = tf.IndexedSlices(rows, ids, tf.constant(SHAPES[0]))
        else:
            first = _sum_into_table(ids, rows)
        grads = [first, *dense]
        self.optimizer.apply_gradients(zip(grads, self.variables, strict=True))

    def _of_rows_read(self, ids, rows):
        """A gradient that depends on the rows, beside reads that it does not need."""
        table = self.variables[0]
        with tf.GradientTape() as tape:
            looked_up = tf_optim.lookup(table, ids)
            loss = tf.reduce_sum(rows * looked_up + looked_up * looked_up / 4)
        tf.nn.embedding_lookup(table, (ids + 5) % ROWS)
        return tape.gradient(loss, table)

    def _step(self, inputs):
        strategy(self.kind).run(self._apply, args=inputs)

    def run(self, steps, first=0):
        for i in range(first, steps):
            self.step(_inputs(self.kind, i))
            if self.reads and i % 3 == _task():  # all rows, on one machine alone
                local_values(self.kind, self.variables[:1])
        return self

    def checkpoint(self):
        return tf.train.Checkpoint(v=self.variables, o=self.optimizer)

    def values(self):
        """As `local_values`, of the variables and of the optimizer's."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        held = optimizer.variables
        held = held() if callable(held) else held
        return local_values(self.kind, [*self.variables, *held])


def local_values(kind, variables):
    """Each variable's values on this process's devices."""
    local = strategy(kind).experimental_local_results
    return [[each.numpy() for each in local(keras_private.raw(v))] for v in variables]


def trained(kind, make, case, steps=6, **arguments):
    return Training(kind, make, case, **arguments).run(steps).values()


def statistics(kind, case, **arguments):
    """The numbers of the last of some steps."""
    training = Training(kind, "ours", case, **arguments)
    training.optimizer.step_statistics = True
    training.run(2)
    return training.optimizer.step_statistics.numbers()


def saved(kind, case, path, steps, **arguments):
    training = Training(kind, "ours", case, **arguments).run(steps)
    path = f"{path} {_task()}"
    with strategy(kind).scope():
        training.checkpoint().write(path)


def resumed(kind, case, path, first, steps, **arguments):
    """What `trained` returns, of the steps from `first` on that go on from `saved`."""
    training = Training(kind, "ours", case, **arguments)
    path = f"{path} {_task()}"
    with strategy(kind).scope():
        training.checkpoint().read(path).assert_consumed()
    return training.run(steps, first).values()


def _task():
    """Which of a strategy's processes this is."""
    return json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0)


def strategy_name(kind):
    return type(strategy(kind)).__name__


def graph_ops(kind, case):
    """How many of our ops a step has, by type; those that check alone are one."""
    training = Training(kind, "ours", case)
    found = nodes.nodes_of(training.step.get_concrete_function(_inputs(kind, 0)))
    counts = collections.Counter(
        "TfOptim>check_only" if node.attr["check_only"].b else node.op for node in found
    )
    return {op: n for op, n in counts.items() if op.startswith("TfOptim>")}


def modes_and_ops(kind, case, **arguments):
    """The modes of the sparse ops of a step, and the types of all ops in it."""
    training = Training(kind, "ours", case, **arguments)
    return nodes.modes_and_ops(training.step.get_concrete_function(_inputs(kind, 0)))


def kept(kind, case, **options):
    """How many rows each replica keeps after the first step of a window."""
    training = Training(kind, "ours", case, **options).run(1)
    places = range(len(local_values(kind, training.variables)[0]))
    return [int(training.optimizer._kept_rows.get((0, i)).rows[2]) for i in places]


class _Packed:
    """A table and a matrix whose slots are packed, and their step."""

    def __init__(self, kind, slot_dtype, **arguments):
        self.kind = kind
        with strategy(kind).scope():
            self.variables = models.variables(((50, 16), (16, 20)))
            self.optimizer = tf_optim.Adam(
                0.1, slot_dtype=lambda v: slot_dtype, **arguments
            )
            self.optimizer.build(self.variables)
        self.checkpoint = tf.train.Checkpoint(v=self.variables, o=self.optimizer)
        self._step = tf.function(lambda i: strategy(kind).run(self._apply, args=(i,)))

    def _apply(self, step):
        # The same on each replica; one device takes the sum.
        share = 1.0 / strategy(self.kind).num_replicas_in_sync
        numbers = [tf.range(n, dtype=tf.float32) + step for n in (4 * 16, 16 * 20)]
        rows, matrix = (share * tf.sin(n * n) for n in numbers)
        slices = tf.IndexedSlices(tf.reshape(rows, [4, 16]), tf.constant([3, 7, 3, 40]))
        pairs = zip((slices, tf.reshape(matrix, [16, 20])), self.variables, strict=True)
        self.optimizer.apply_gradients(pairs)

    def run(self, first, last):
        for i in range(first, last):
            self._step(tf.constant(float(i)))
        return self

    def values(self):
        held = self.optimizer.variables
        held = held() if callable(held) else held
        return local_values(self.kind, [*self.variables, *held])


def packed_slots(kind, slot_dtype, path, **arguments):
    """After six steps in one go, and with a checkpoint after three; what is packed."""
    path = f"{path} {_task()}"
    training = _Packed(kind, slot_dtype, **arguments).run(0, 3)
    resumed = _Packed(kind, slot_dtype, **arguments)
    with strategy(kind).scope():
        training.checkpoint.write(path)
        resumed.checkpoint.read(path).assert_consumed()
    memory = tf_optim.memory_report(training.optimizer)
    dtypes = [dtype for line in memory for _, dtype, _ in line.slots]
    return training.run(3, 6).values(), resumed.run(3, 6).values(), dtypes


def stepped(kind, dtype, fuses):
    """After two steps of ours, built by itself or made of a built one of stock's."""
    with strategy(kind).scope():
        variables = models.variables(SHAPES, dtype)
        make = tf.keras.optimizers.Adam if fuses else tf_optim.Adam
        optimizer = make(0.1)
        optimizer.build(variables)
        if fuses:
            optimizer = tf_optim.fuse(optimizer)

    def apply():
        grads = [tf.cast(tf.ones_like(v), dtype) for v in variables]
        optimizer.apply_gradients(zip(grads, variables, strict=True))

    step = tf.function(lambda: strategy(kind).run(apply))
    for _ in range(2):
        step()
    return local_values(kind, variables)


def counted(kind, made_in_scope):
    """How often a MultiOptimizer and its part have counted two steps."""
    with strategy(kind).scope():
        variables = models.variables(((3,),))
    with strategy(kind).scope() if made_in_scope else contextlib.nullcontext():
        part = tf_optim.SGD(0.5)
        optimizer = tf_optim.MultiOptimizer([(part, None)])

    def apply():
        optimizer.apply_gradients([(tf.ones([3]), variables[0])])

    step = tf.function(lambda: strategy(kind).run(apply))
    for _ in range(2):
        step()
    counts = local_values(kind, [optimizer.iterations, part.iterations])
    return tuple(int(local[0]) for local in counts)


def failed(kind, case):
    """Values before and after a step with a bad id, and what the step said."""
    training = Training(kind, "ours", case).run(1)
    before = training.values()
    _, *others = _inputs(kind, 1)
    bad = strategy(kind).experimental_distribute_values_from_function(
        lambda context: np.full(5, ROWS, np.int64)
    )
    try:
        training.step((bad, *others))
        said = "nothing"
    except tf.errors.InvalidArgumentError as error:
        said = str(error)
    return before, training.values(), said


def fitted(kind, make, case, **arguments):
    """Loss by epoch of `model.fit`, and the values of all weights."""
    x, y = models.recommender_data()
    with strategy(kind).scope():
        optimizer = getattr(models, make)(case, **arguments)
        model = models.compiled(models.recommender(), optimizer)
        if arguments.get("sparse_update") == "exact":
            tf_optim.prepare(model)
    # Batches are whole: each worker takes its part of them.
    data = tf.data.Dataset.from_tensor_slices((x, y.astype("float32"))).batch(16)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    history = model.fit(data.with_options(options), epochs=8, verbose=0)
    return history.history["loss"], local_values(kind, model.trainable_variables)


def exported(kind, case, path):
    """A SavedModel of a model whose table lies behind; ids, and its predictions."""
    ids = np.random.default_rng(0).integers(50, size=(64, 3)).astype("int32")
    target = np.random.default_rng(1).normal(size=(64, 1)).astype("float32")
    with strategy(kind).scope():
        layers = [tf.keras.layers.Input((3,), dtype="int32")]
        layers += [tf_optim.Embedding(50, 4), tf.keras.layers.Flatten()]
        model = tf.keras.Sequential([*layers, tf.keras.layers.Dense(1)])
        optimizer = models.ours(case, sparse_update="exact")
        models.compiled(model, optimizer)
    model.fit(ids, target, batch_size=8, epochs=2, verbose=0)
    module = tf.Module()
    module.model = model
    signature = [tf.TensorSpec([None, 3], tf.int32)]
    module.serve = tf.function(lambda each: model(each), input_signature=signature)
    tf.saved_model.save(module, path)
    return ids, model.predict(ids, verbose=0)
