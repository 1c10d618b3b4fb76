"""ParameterServerStrategy: tables are split over servers, workers come and go.

python -m examples.parameter_server    starts its servers on this machine
"""

import collections
import os
import sys

from examples import common, local_cluster


def main():
    settings, options = common.parse(__doc__, workers=2, servers=2)
    common.quiet()
    # Without it a chief waits for a server that is gone.
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    if "TF_CONFIG" in os.environ:  # the chief of servers that are up
        train(settings, options)
        return
    jobs = {"chief": 1, "worker": options.workers, "ps": options.servers}
    with local_cluster.Cluster(jobs, own="chief") as cluster:
        os.environ["TF_CONFIG"] = cluster.wait().config("chief")
        servers = [cluster.tasks["ps", i].process.pid for i in range(options.servers)]
        before = [common.peak_memory(server) for server in servers]
        train(settings, options)
        more = [
            f"{(common.peak_memory(server) - had) / 1e6:.0f}"
            for server, had in zip(servers, before, strict=True)
        ]
        print(f"Peak memory of the servers over that before: {', '.join(more)} MB.")
        sys.stdout.flush()
    # TensorFlow would look for the servers once more.
    os._exit(0)


def train(settings, options):
    """The chief's part."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    spec = resolver.cluster_spec()
    servers, workers = spec.num_tasks("ps"), spec.num_tasks("worker")
    # A table has a shard on each server, the small dense layers have none.
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes=256 << 10, max_shards=servers
    )
    strategy = tf.distribute.ParameterServerStrategy(resolver, partitioner)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    runs = [
        common.timed(name, settings, _steps(coordinator, settings, workers, make))
        for name, make in common.optimizers(options, settings.learning_rate)
    ]
    # The chief sends a batch. Ids go to the servers and rows come back; gradients go
    # with their ids. Dense layers are read, and their gradients sent.
    batch, ids, rows, dense = common.bytes_of_a_step(settings)
    expected = batch + 2 * (ids + rows + dense)
    title = f"ParameterServerStrategy, {workers} workers, {servers} servers"
    common.show(title, settings, runs, expected)


def _steps(coordinator, settings, workers, make):
    """Each step is one worker's, and nobody waits for it."""
    import tensorflow as tf

    import tf_optim
    from examples import recommender

    strategy = coordinator.strategy
    pairs = recommender.Pairs(settings)
    with strategy.scope():
        model = recommender.TwoTowers(settings)
        optimizer = make()
        if getattr(optimizer, "sparse_update", None) == "exact":
            tf_optim.prepare(model.users)
            tf_optim.prepare(model.items)
        optimizer.build(model.all_variables())

    def worker_step(users, items):
        loss, gradients = model.gradients(users, items)
        optimizer.apply_gradients(gradients)
        return loss

    @tf.function
    def step(users, items):
        return strategy.run(worker_step, args=(users, items))

    def take(numbers):
        waiting = collections.deque()
        for number in numbers:
            waiting.append(coordinator.schedule(step, args=pairs.batch(number)))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().fetch()
        while waiting:
            yield waiting.popleft().fetch()

    return take


if __name__ == "__main__":
    main()
