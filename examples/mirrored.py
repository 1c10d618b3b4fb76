"""MirroredStrategy: one process, every device holds all tables.

python -m examples.mirrored            a machine's GPUs, or parts of its CPU
"""

from examples import common


def main():
    settings, options = common.parse(__doc__, replicas=2)
    common.quiet()
    import tensorflow as tf

    from examples import replicas

    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) >= options.replicas:
        devices = [f"GPU:{i}" for i in range(options.replicas)]
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * options.replicas
        tf.config.set_logical_device_configuration(cpu, parts)
        devices = [f"CPU:{i}" for i in range(options.replicas)]
    strategy = tf.distribute.MirroredStrategy(devices)
    runs = replicas.train(strategy, settings, options, on_the_wire=False)
    common.show(f"MirroredStrategy on {', '.join(devices)}", settings, runs)


if __name__ == "__main__":
    main()
