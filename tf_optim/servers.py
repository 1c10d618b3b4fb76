"""The other processes of a cluster: whether they know our ops."""

import functools

import tensorflow as tf

from tf_optim import library

# The jobs that tf.distribute.ParameterServerStrategy allows and sends ops to.
_VARIABLES, _JOBS = "ps", ("ps", "worker")


def is_server(device):
    """Whether a device is a parameter server's, over the network."""
    return bool(device) and tf.DeviceSpec.from_string(device).job == _VARIABLES


def among(devices):
    """Those of some devices that are parameter servers'."""
    return set(filter(is_server, devices))


def check_they_know_our_ops():
    """Raises RuntimeError if a server of the cluster has not imported tf_optim."""
    _ask(tuple(device.name for device in tf.config.list_logical_devices("CPU")))


@functools.cache  # of the answer, not of an error: a server may be mended
def _ask(devices):
    """Runs an op of ours that does nothing on each server, once."""
    ignorant = []
    for device in devices:
        spec = tf.DeviceSpec.from_string(device)
        if spec.job in _JOBS and spec.device_index == 0:
            with tf.init_scope(), tf.device(device):
                if not _knows():
                    ignorant.append(f"/job:{spec.job}/task:{spec.task}")
    if ignorant:
        raise RuntimeError(
            "Every server of a ParameterServerStrategy must run `import tf_optim` "
            "before it starts `tf.distribute.Server`: the optimizer's ops run there. "
            f"Received: servers that do not know them: {', '.join(ignorant)}."
        )


def _knows():
    try:
        library.ops().tf_optim_check_indices(indices=[tf.constant([0])], rows=[1])
    except tf.errors.NotFoundError:
        return False
    except tf.errors.OpError:
        return True  # it cannot be asked: the step will say what is wrong
    return True
