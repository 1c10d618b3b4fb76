"""What the chief of the tests of ParameterServerStrategy runs, a child process.

The loss is linear, so that gradients are what the tests say they are, and the same
code trains on one device, with `shards` 0.
"""

import contextlib
import functools
import os
import signal
import time

import numpy as np
import tensorflow as tf

import tf_optim
from tests import models, nodes
from tf_optim import keras_private

ROWS, WIDTH = 600, 16
DENSE = (5, 3)
BATCH = 24


@functools.cache
def strategy(shards):
    """Tables are split into `shards`, other variables are whole."""
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes=1 << 10, max_shards=shards
    )
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    return tf.distribute.ParameterServerStrategy(resolver, partitioner)


def parts(variable):
    """The shards of a table; of any other variable itself."""
    if hasattr(variable, "variables"):
        return list(variable.variables)
    return [keras_private.raw(variable)]


def value(variable):
    """A variable or table as an array."""
    return np.concatenate([np.atleast_1d(part.numpy()) for part in parts(variable)])


class Training:
    """A table, a matrix and their optimizer, on `shards` shards or one device."""

    def __init__(self, shards, make, case, rows=ROWS, **arguments):
        self.unique = make == "stock"  # it is wrong, or raises, on repeated ids
        self.strategy = strategy(shards) if shards else tf.distribute.get_strategy()
        with self.scope():
            start = tf.random.stateless_normal([rows, WIDTH], [1, 2])
            self.table = tf.Variable(start, name="table")
            self.matrix = tf.Variable(
                tf.random.stateless_normal(DENSE, [3, 4]), name="matrix"
            )
            self.variables = parts(self.table) + parts(self.matrix)
            self.optimizer = getattr(models, make)(case, **arguments)
            self.optimizer.build(self.variables)
        self.checkpoint = tf.train.Checkpoint(
            table=self.table, matrix=self.matrix, optimizer=self.optimizer
        )
        self.step = tf.function(self._step)
        self.coordinator = None
        if shards:
            self.coordinator = tf.distribute.coordinator.ClusterCoordinator(
                self.strategy
            )

    def scope(self):
        default = self.strategy is tf.distribute.get_strategy()
        return contextlib.nullcontext() if default else self.strategy.scope()

    def _apply(self, ids, rows, dense):
        with tf.GradientTape() as tape:
            exact = getattr(self.optimizer, "sparse_update", None) == "exact"
            look_up = tf_optim.lookup if exact else tf.nn.embedding_lookup
            looked_up = look_up(self.table, ids)
            loss = tf.reduce_sum(looked_up * rows) + tf.reduce_sum(self.matrix * dense)
        grads = tape.gradient(loss, self.variables)
        self.optimizer.apply_gradients(zip(grads, self.variables, strict=True))
        return loss

    def _step(self, ids, rows, dense):
        return self.strategy.run(self._apply, args=(ids, rows, dense))

    def schedule(self, *inputs):
        return self.coordinator.schedule(self.step, args=inputs)

    def run(self, steps, first=0):
        """One step after the other: the result does not depend on time."""
        for i in range(first, first + steps):
            batch = inputs(i, self.unique)
            if self.coordinator is None:
                self.step(*batch)
            else:
                self.schedule(*batch)
                self.coordinator.join()
        return self

    def state(self):
        """Values by their place in a checkpoint, shards put together."""
        values = {"table": value(self.table), "matrix": value(self.matrix)}
        values["iterations"] = self.optimizer.iterations.numpy()
        for name, child in self.optimizer._trackable_children().items():
            if isinstance(child, list) and name not in ("_trainable_variables",):
                for i, each in enumerate(v for v in child if v is not None):
                    values[f"{name} {i}"] = value(each)
        return values


def inputs(step, unique=False):
    """Ids from all of the table, some of them twice unless they are `unique`."""
    rng = np.random.default_rng(step)
    ids = rng.integers(ROWS // 50, size=BATCH) * 49
    rows = rng.normal(size=(BATCH, WIDTH)).astype("float32")
    dense = rng.normal(size=DENSE).astype("float32")
    if unique:
        ids, first = np.unique(ids, return_index=True)
        rows = rows[first]
    return ids, rows, dense


def trained(shards, make, case, steps, **arguments):
    return Training(shards, make, case, **arguments).run(steps).state()


def packed(shards, case, in_scope):
    """The error of packed slots on servers."""
    variables = Training(shards, "ours", case).variables
    optimizer = tf_optim.Adam(slot_dtype={"table": "int8"})
    with strategy(shards).scope() if in_scope else contextlib.nullcontext():
        try:
            optimizer.build(variables)
        except ValueError as error:
            return str(error)
    return None


def trained_in(shards, make, case, steps, **arguments):
    """As `trained`, and for each variable its device and those of its slots."""
    training = Training(shards, make, case, **arguments).run(steps)
    slots = [keras_private.slots_of(training.optimizer, v) for v in training.variables]
    places = [
        (variable.device, [slot.device for slot in its if slot is not None])
        for variable, its in zip(training.variables, slots, strict=True)
    ]
    return training.state(), places


def _bytes_on_loopback():
    with open("/proc/net/dev") as lines:
        (line,) = [line for line in lines if line.strip().startswith("lo:")]
    return int(line.split(":")[1].split()[8])


def traffic(shards, case, rows, steps, share, mode, tries=40):
    """Bytes of a step over the network, of the quietest try; and the table's.

    A try that sends less than that share of the table is the last.
    """
    training = Training(shards, "ours", case, rows=rows, sparse_update=mode).run(2)
    table = rows * WIDTH * 4
    least = table
    for _ in range(tries):
        before = _bytes_on_loopback()
        training.run(steps)
        least = min(least, (_bytes_on_loopback() - before) / steps)
        if least < share * table:
            break
    return least, table


def modes_and_ops(shards, case, **arguments):
    """Of a worker's step."""
    step = Training(shards, "ours", case, **arguments).step
    return nodes.modes_and_ops(step.get_concrete_function(*inputs(0)))


def touched(shards, case, steps):
    """The ids that steps have named behind the second one, and `touched_rows`."""
    training = Training(shards, "ours", case, sparse_update="exact").run(steps)
    named = np.unique(np.concatenate([inputs(i)[0] for i in range(2, steps)]))
    training.optimizer.catch_up(training.table)
    return named, training.optimizer.touched_rows(training.table, 2).numpy()


def halved(shards, case, steps):
    """Trains in no order, each step halving every row, whether it names it or not.

    Returns the table, which began at 1, and the optimizer's count of steps.
    """
    options = {"learning_rate": 0.5, "weight_decay": 1.0, "sparse_update": "exact"}
    training = Training(shards, "ours", case, **options)
    for part in parts(training.table):
        part.assign(tf.ones_like(part))
    zeros = np.zeros((5, WIDTH), np.float32), np.zeros(DENSE, np.float32)
    for i in range(steps):
        training.schedule(_names(i), *zeros)
    training.coordinator.join()
    return value(training.table), int(training.optimizer.iterations.numpy())


def _names(step):
    """Ids of a step that names row 0 each time, and some twice."""
    return np.array([0, 0, step % 7 + 1, step % 7 + 1, ROWS - 1 - step % 3], np.int64)


def counted(shards, case, steps, victim=None, **arguments):
    """Trains in no order, with every gradient 1 and every step of it 1.

    `victim` is a worker's process to kill.

    Returns how often each row's elements went down, how often steps named it, the
    optimizer's count of steps, that count when the victim was killed, and what the
    ops of a step say of `use_locking`.
    """
    training = Training(shards, "ours", case, learning_rate=1.0, **arguments)
    start = tf.zeros([ROWS, WIDTH])
    for part, piece in zip(
        parts(training.table),
        tf.split(start, [p.shape[0] for p in parts(training.table)]),
        strict=True,
    ):
        part.assign(piece)
    ones = np.ones((5, WIDTH), np.float32), np.ones(DENSE, np.float32)
    results = [training.schedule(_names(i), *ones) for i in range(steps)]
    when_killed = None
    if victim is not None:
        results[steps // 10].fetch()
        os.kill(victim, signal.SIGKILL)
        when_killed = int(training.optimizer.iterations.numpy())
    training.coordinator.join()
    named = np.zeros(ROWS, np.int64)
    for i in range(steps):
        named[np.unique(_names(i))] += 1
    return (
        -value(training.table),
        named,
        int(training.optimizer.iterations.numpy()),
        when_killed,
        locking(training.step.get_concrete_function(_names(0), *ones)),
    )


def locking(function):
    """The values of `use_locking` among the sparse ops of a traced function."""
    found = nodes.nodes_of(function)
    sparse = [n for n in found if "SparseApply" in n.op and "TfOptim>" in n.op]
    return sorted({node.attr["use_locking"].b for node in sparse})


def interrupted(shards, case, victim, path, **arguments):
    """Trains, saves at step 10, and loses a parameter server at step 15.

    Returns the name of what is raised then, and after how many seconds.
    """
    training = Training(shards, "ours", case, **arguments).run(10)
    training.checkpoint.write(path)
    training.run(5, first=10)
    began = time.monotonic()
    try:
        os.kill(victim, signal.SIGKILL)
        training.run(1000, first=15)
    except tf.errors.OpError as error:
        return type(error).__name__, time.monotonic() - began
    return "nothing", 0.0


def resumed(shards, make, case, path, steps, **arguments):
    """The state right after a restore, and after `steps` more steps from step 10."""
    training = Training(shards, make, case, **arguments)
    training.checkpoint.read(path).assert_consumed()
    return training.state(), training.run(steps, first=10).state()


def saved(shards, make, case, path, **arguments):
    training = Training(shards, make, case, **arguments).run(10)
    training.checkpoint.write(path)
    return training.state()


def fitted(shards, make, case, **arguments):
    """The loss of each epoch of `model.fit`."""
    x, y = models.recommender_data(rows=500, unique=False)
    with strategy(shards).scope():
        model = models.recommender(rows=500)
        optimizer = getattr(models, make)(case, **arguments)
        models.compiled(model, optimizer, steps_per_execution=4)
        tf_optim.prepare(model)
    data = tf.data.Dataset.from_tensor_slices((x, y.astype("float32")))
    data = data.batch(16).repeat()
    return model.fit(data, epochs=4, steps_per_epoch=8, verbose=0).history["loss"]


def trained_with_layers(shards, make, case, steps):
    """A split table in front of Keras layers; the first and the last loss."""
    x, y = models.recommender_data(rows=500, unique=False)
    with strategy(shards).scope():
        table = tf.Variable(tf.random.stateless_normal([500, 4], [1, 2]), name="table")
        layer = tf.keras.layers.Dense(1)
        layer.build((None, 12))
        variables = parts(table) + list(layer.trainable_variables)
        optimizer = getattr(models, make)(case)
        optimizer.build(variables)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy(shards))

    def apply(ids, target):
        with tf.GradientTape() as tape:
            vectors = tf.reshape(tf.nn.embedding_lookup(table, ids), [-1, 12])
            loss = tf.reduce_mean(tf.square(layer(vectors) - target))
        grads = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(grads, variables, strict=True))
        return loss

    @tf.function
    def step(ids, target):
        return strategy(shards).run(apply, args=(ids, target))

    losses = [
        coordinator.schedule(step, args=(x, y.astype("float32"))) for _ in range(steps)
    ]
    coordinator.join()
    return float(losses[0].fetch()), float(losses[-1].fetch())


def first_step(case):
    """The error of a first step, in a tf.function and without one."""
    said = []
    training = Training(1, "ours", case)
    run = training.strategy.run
    for attempt in (
        lambda: training.run(1),
        lambda: run(training._apply, args=inputs(0)),
    ):
        try:
            attempt()
            said.append("nothing")
        except RuntimeError as error:
            said.append(str(error))
    return said
