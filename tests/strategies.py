"""What the child of strategies_test runs: two devices, optimizers made outside."""

import contextlib

import numpy as np
import tensorflow as tf

import tf_optim
from tests import replicated
from tf_optim import keras_private
from tf_optim.keras_private import raw


def _mirrored():
    return replicated.strategy("mirrored")


def _data():
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def _maker(make, name, arguments):
    module = tf_optim if make in ("ours", "fused") else tf.keras.optimizers
    return getattr(tf.keras.optimizers if make == "fused" else module, name)(
        0.05, **arguments
    )


def fitted(make, name, arguments):
    """Only the model is made in the scope. Its kernel on each device, and steps."""
    tf.keras.utils.set_random_seed(1)
    with _mirrored().scope():
        layers = [tf.keras.layers.Input((4,)), tf.keras.layers.Dense(1)]
        model = tf.keras.Sequential(layers)
    model.compile(_maker(make, name, arguments), "mse")
    if make == "fused":
        model.compile(tf_optim.fuse(model.optimizer), "mse")
    model.fit(*_data(), batch_size=8, epochs=2, verbose=0, shuffle=False)
    values = replicated.local_values("mirrored", model.trainable_variables)
    return values, int(model.optimizer.iterations)


def alone(name, arguments):
    """The same on one device, by stock."""
    tf.keras.utils.set_random_seed(1)
    layers = [tf.keras.layers.Input((4,)), tf.keras.layers.Dense(1)]
    model = tf.keras.Sequential(layers)
    model.compile(_maker("stock", name, arguments), "mse")
    model.fit(*_data(), batch_size=8, epochs=2, verbose=0, shuffle=False)
    return [v.numpy() for v in model.trainable_variables]


def _said(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def variable_from_outside():
    """What a step says whose variable is of no strategy, and the variable after it."""
    variable = tf.Variable([1.0, 1.0])
    with _mirrored().scope():
        optimizer = tf_optim.SGD(0.1)

    def replica():
        optimizer.apply_gradients([(tf.ones([2]), variable)])

    said = _said(tf.function(lambda: _mirrored().run(replica)))
    return said, variable.numpy()


def in_the_scope():
    """What a step in the scope itself says."""
    with _mirrored().scope():
        variable = tf.Variable([1.0, 1.0])
        optimizer = tf_optim.SGD(0.1)
        optimizer.build([variable])
        return _said(lambda: optimizer.apply_gradients([(tf.ones([2]), variable)]))


def unlike_gradients(difference):
    """What a step says of replicas with unlike gradients; the variables after it."""
    with _mirrored().scope():
        variables = [tf.Variable(tf.ones([2, 1]), name=name) for name in ("a", "b")]
        optimizer = tf_optim.SGD(0.1)
        optimizer.build(variables)

    def replica():
        grads, own = [tf.ones([2, 1]), tf.ones([2, 1])], variables
        if tf.distribute.get_replica_context().replica_id_in_sync_group == 1:
            if difference == "missing":
                grads[1] = None
            elif difference == "sparse":
                grads[1] = tf.IndexedSlices(tf.ones([1, 1]), [0], (2, 1))
            else:
                own = variables[::-1]
        optimizer.apply_gradients(zip(grads, own, strict=True))

    said = _said(lambda: _mirrored().run(replica))
    iterations = int(tf.convert_to_tensor(optimizer.iterations))
    return said, [v.numpy() for v in variables], iterations


def looped(name, arguments, loops):
    """Steps on a table whose batches name ever other numbers of different ids."""
    ids = tf.constant([[4, 4, 1], [2, 1, 3], [3, 3, 3], [0, 1, 1]])
    with _mirrored().scope():
        table = tf.Variable(tf.ones([5, 2]))
        optimizer = getattr(tf_optim, name)(0.1, **arguments)
        optimizer.build([table])

    def replica(ids):
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.reshape(tf.range(6.0), [3, 2]) * tf.cast(number + 1, tf.float32)
        gradient = tf.IndexedSlices(rows, (ids + number) % 5, (5, 2))
        optimizer.apply_gradients([(gradient, table)])

    @tf.function
    def step(ids):
        _mirrored().run(replica, args=(ids,))

    @tf.function
    def loop(ids):
        for i in tf.range(4):
            step(ids[i])

    if loops:
        loop(ids)
    else:
        for i in range(4):
            step(ids[i])
    return replicated.local_values("mirrored", [table])


def built_outside(name):
    """An optimizer made and built outside of the scope of its variables."""
    with _mirrored().scope():
        variable = tf.Variable([1.0, 2.0])
    optimizer = getattr(tf_optim, name)(0.1)
    optimizer.build([variable])

    def replica():
        context = tf.distribute.get_replica_context()
        factor = tf.cast(context.replica_id_in_sync_group, tf.float32) + 1.0
        optimizer.apply_gradients([(factor * tf.ones([2]), variable)])

    step = tf.function(lambda: _mirrored().run(replica))
    for _ in range(3):
        step()
    held = [variable, *map(raw, optimizer.variables)]
    return replicated.local_values("mirrored", held)


def central(make, name, sparse, arguments, steps=4):
    """CentralStorageStrategy: replicas share the variables of one device."""
    replicated.strategy("mirrored")  # makes the devices
    kind = tf.distribute.experimental.CentralStorageStrategy
    strategy = kind(["CPU:0", "CPU:1"], "CPU:0")
    with strategy.scope():
        table = tf.Variable(tf.ones([3, 2]))
        optimizer = _maker(make, name, arguments)
        optimizer.build([table])

    def replica(rows):
        gradient = tf.identity(rows)
        if sparse:
            gradient = tf.IndexedSlices(gradient[:2], tf.constant([1, 1]), (3, 2))
        optimizer.apply_gradients([(gradient, table)])

    step = tf.function(lambda rows: strategy.run(replica, args=(rows,)))
    for i in range(steps):
        step(tf.reshape(tf.range(6.0), [3, 2]) / 8 + 0.125 * i)
    return table.numpy(), int(optimizer.iterations)


def stale_on_one_of_two_devices():
    """What a step says that names a row which was not read; the tables around it."""
    replicated.strategy("mirrored")  # makes the devices
    tables = []
    for i in range(2):
        with tf.device(f"CPU:{i}"):
            tables.append(tf.Variable(tf.ones([4, 2])))
        tf_optim.prepare(tables[-1])
    optimizer = tf_optim.Adam(0.1, sparse_update="exact")
    optimizer.build(tables)

    def step(*rows):
        ids = [tf.constant([row]) for row in rows]
        grads = [tf.IndexedSlices(tf.ones([1, 2]), each, (4, 2)) for each in ids]
        optimizer.apply_gradients(zip(grads, tables, strict=True))

    tf.function(step)(0, 0)
    tf.function(step)(0, 0)
    kept = [tf.gather(table, [0]).numpy() for table in tables]
    said = _said(lambda: tf.function(step)(0, 1))
    after = [tf.gather(table, [0]).numpy() for table in tables]
    return said, kept, after, int(optimizer.iterations)


def stepped(name, is_built):
    """The variable, and its slots, on each device after steps inside of `run`."""
    strategy = _mirrored()
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])
        optimizer = getattr(tf_optim, name)(0.1)
        if is_built:
            optimizer.build([variable])

    def step():
        gradient = tf.constant([1.0, 0.5])
        optimizer.apply_gradients([(gradient, variable)])

    run = tf.function(lambda: strategy.run(step))
    for _ in range(3):
        run()
    slots = keras_private.slots_of(optimizer, variable)
    return replicated.local_values("mirrored", [variable, *filter(None, slots)])


def rows_stepped(name, arguments):
    """A table after steps that name one row each."""
    strategy = _mirrored()
    with strategy.scope():
        table = tf.Variable(tf.ones([6, 2]))
        optimizer = getattr(tf_optim, name)(0.1, **arguments)
        optimizer.build([table])

    def step(row):
        gradient = tf.IndexedSlices(tf.ones([1, 2]), row, tf.constant([6, 2]))
        optimizer.apply_gradients([(gradient, table)])

    run = tf.function(lambda row: strategy.run(step, (row,)))
    for row in (0, 1, 0):
        run(tf.constant([row]))
    return table.values[0].numpy()


def _wrapped(kind):
    if kind == "LossScaleOptimizer":
        return tf_optim.LossScaleOptimizer(tf_optim.Adam(0.1), initial_scale=4.0)
    if kind == "MultiOptimizer":
        return tf_optim.MultiOptimizer([(tf_optim.Adam(0.1), None)])
    arguments = {"averaging": tf_optim.Lookahead(2)} if kind == "Lookahead" else {}
    arguments |= {"slot_dtype": {".": "int8"}} if kind == "packed" else {}
    return tf_optim.Adam(0.1, **arguments)


def restored(kind, folder):
    """The variable on each device after five steps.

    Straight on, and from a checkpoint after three of them that is restored before and
    after the optimizer is built.
    """
    strategy = _mirrored()
    start = np.linspace(-1.0, 1.0, 16, dtype="float32").reshape(2, 8)

    def made(is_built):
        with strategy.scope():
            variable, optimizer = tf.Variable(start), _wrapped(kind)
            if is_built:
                optimizer.build([variable])

        def step():
            gradient = tf.cos(tf.convert_to_tensor(variable)) + 0.5
            optimizer.apply_gradients([(gradient, variable)])

        run = tf.function(lambda: strategy.run(step))
        return variable, tf.train.Checkpoint(v=variable, o=optimizer), run

    straight, checkpoint, run = made(True)
    for _ in range(3):
        run()
    path = checkpoint.save(f"{folder}/{kind}")
    found = [straight]
    for is_built in (False, True):
        variable, checkpoint, again = made(is_built)
        checkpoint.restore(path)
        for _ in range(2):
            again()
        found.append(variable)
    for _ in range(2):
        run()
    return replicated.local_values("mirrored", found)


def overflowed(replica, built_in_scope):
    """A variable before and after a step in which one replica's gradient overflows.

    And the scale after it, and after two good ones of which the second doubles it.
    """
    strategy = _mirrored()
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])
    with strategy.scope() if built_in_scope else contextlib.nullcontext():
        optimizer = tf_optim.LossScaleOptimizer(
            tf_optim.Adam(0.1), initial_scale=4.0, dynamic_growth_steps=2
        )
        optimizer.build([variable])

    def step(bad):
        context = tf.distribute.get_replica_context()
        is_here = tf.equal(context.replica_id_in_sync_group, bad)
        gradient = tf.where(is_here, tf.constant([np.inf, 1.0]), tf.ones([2]))
        optimizer.apply_gradients([(gradient, variable)])

    run = tf.function(lambda bad: strategy.run(step, (bad,)))
    run(-1)
    before = variable.numpy()
    run(replica)
    after, scales = variable.numpy(), []
    for _ in range(3):
        scale = getattr(optimizer, "dynamic_scale", None)
        scale = optimizer.loss_scale if scale is None else scale
        scales.append(float(tf.convert_to_tensor(scale)))
        run(-1)
    return before, after, scales


def exact_in_a_branch(mode):
    """Two tables of which each step reads one."""
    strategy = _mirrored()
    with strategy.scope():
        tables = [tf.Variable(tf.ones([9, 2])) for _ in range(2)]
        if mode == "exact":
            for table in tables:
                tf_optim.prepare(table)
        optimizer = tf_optim.Adam(0.1, sparse_update=mode)
        optimizer.build(tables)

    def step(i):
        with tf.GradientTape() as tape:
            loss = tf.cond(
                i % 3 == 0,
                lambda: tf.reduce_sum(tf.gather(tables[0], [i, i + 2]) ** 2),
                lambda: tf.reduce_sum(tf.gather(tables[1], [i, i + 1]) ** 3),
            )
        gradients = tape.gradient(loss, tables)
        optimizer.apply_gradients(zip(gradients, tables, strict=True))

    run = tf.function(lambda i: strategy.run(step, (i,)))
    for i in range(6):
        run(tf.constant(i))
    return replicated.local_values("mirrored", tables)


def loaded_elsewhere(path):
    """What a SavedModel serves that is loaded in strategies and in a graph.

    And what its step says in the first of them.
    """
    _mirrored()  # makes the devices
    variable = tf.Variable([1.0, 2.0])
    optimizer = tf_optim.SGD(0.5)
    optimizer.build([variable])
    module = tf.Module()
    module.optimizer, module.variable = optimizer, variable

    @tf.function(input_signature=[])
    def step():
        optimizer.apply_gradients([(tf.ones([2]), variable)])

    step()
    module.step = step
    module.serve = tf.function(lambda: 2.0 * variable, input_signature=[])
    options = tf.saved_model.SaveOptions(namespace_whitelist=["TfOptim"])
    tf.saved_model.save(module, path, options=options)
    served, said = [], None
    for strategy in (_mirrored(), tf.distribute.OneDeviceStrategy("CPU:1")):
        with strategy.scope():
            loaded = tf.saved_model.load(path)
        results = strategy.experimental_local_results(strategy.run(loaded.serve))
        served += [each.numpy() for each in results]
        said = said or _said(lambda loaded=loaded: loaded.step())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.saved_model.load(path)
        serve = loaded.serve()
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(tf.compat.v1.tables_initializer())
        served.append(session.run(serve))
    return served, said
