"""MultiWorkerMirroredStrategy: every worker holds all tables.

python -m examples.multi_worker        starts its workers on this machine
"""

import os
import sys

from examples import common, local_cluster


def main():
    settings, options = common.parse(__doc__, workers=2)
    common.quiet()
    if "TF_CONFIG" in os.environ:  # a worker, here or on a machine of its own
        local_cluster.end_with_parent()
        train(settings, options)
        return
    command = [sys.executable, "-m", "examples.multi_worker", *sys.argv[1:]]
    jobs = {"worker": options.workers}
    with local_cluster.Cluster(jobs, own="worker", command=command) as cluster:
        os.environ["TF_CONFIG"] = cluster.config("worker")
        train(settings, options)


def train(settings, options):
    """A worker's part; the first one shows how it goes."""
    import tensorflow as tf

    from examples import replicas

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    workers = strategy.num_replicas_in_sync
    first = strategy.cluster_resolver.task_id == 0
    runs = replicas.train(strategy, settings, options, progress=first)
    if first:
        # Every worker sends its rows and ids to all others. Of dense gradients it
        # adds up a part, which it gets from all others and sends to them.
        _, ids, rows, dense = common.bytes_of_a_step(settings)
        expected = (workers - 1) * (workers * (rows + ids) + 2 * dense)
        title = f"MultiWorkerMirroredStrategy, {workers} workers"
        common.show(title, settings, runs, expected)


if __name__ == "__main__":
    main()
