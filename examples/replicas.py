"""The loop of both synchronous strategies: every replica its own batch."""

import tensorflow as tf

import tf_optim
from examples import common, recommender


def train(strategy, settings, options, on_the_wire=True, progress=True):
    """Trains with stock and with ours in turn.

    Args:
        strategy: a MirroredStrategy or MultiWorkerMirroredStrategy.
        settings: the `Settings`.
        options: the command line's others.
        on_the_wire: whether replicas meet over the network.
        progress: whether to show how it goes.

    Returns:
        A `common.Run` for each.
    """
    pairs = recommender.Pairs(settings)
    return [
        common.timed(
            name,
            settings,
            _steps(strategy, settings, pairs, make),
            on_the_wire,
            progress,
        )
        for name, make in common.optimizers(options, settings.learning_rate)
    ]


def _steps(strategy, settings, pairs, make):
    with strategy.scope():
        model = recommender.TwoTowers(settings)
        optimizer = make()
        if getattr(optimizer, "sparse_update", None) == "exact":
            tf_optim.prepare(model.users)
            tf_optim.prepare(model.items)
        optimizer.build(model.all_variables())
    count = strategy.num_replicas_in_sync

    def replica_step(users, items):
        loss, gradients = model.gradients(users, items)
        # The strategy adds gradients up, and the loss is the mean over replicas.
        optimizer.apply_gradients([(_divided(g, count), v) for g, v in gradients])
        return loss

    @tf.function
    def step(users, items):
        losses = strategy.run(replica_step, args=(users, items))
        return strategy.reduce("MEAN", losses, axis=None)

    def take(numbers):
        for number in numbers:
            yield step(*_batches(strategy, pairs, number))

    return take


def _divided(gradient, count):
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values / count
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient / count


def _batches(strategy, pairs, number):
    """Users and items of a step, each replica's own."""

    def ids(which):
        return strategy.experimental_distribute_values_from_function(
            lambda context: pairs.batch(number, context.replica_id_in_sync_group)[which]
        )

    return ids(0), ids(1)
