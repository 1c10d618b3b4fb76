"""A tf.distribute cluster of processes on this machine.

    with Cluster({"chief": 1, "worker": 2, "ps": 2}, own="chief") as cluster:
        os.environ["TF_CONFIG"] = cluster.wait().config("chief")
        strategy = tf.distribute.ParameterServerStrategy(...)

Run as a program, this file is one server of such a cluster: all that a parameter
server or a worker needs is `import tf_optim` before `tf.distribute.Server`.
"""

import contextlib
import json
import os
import pathlib
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_UP = b"up\n"
_SERVER = (sys.executable, "-m", "examples.local_cluster")


def serve():
    """Serves this process's task of `TF_CONFIG` until its parent ends."""
    import tf_optim  # noqa: F401  the server runs its ops

    run_server()


def run_server():
    """As `serve`, of the ops that this process has loaded."""
    end_with_parent()
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol="grpc",
        # Steps wait for each other in these threads.
        config=tf.compat.v1.ConfigProto(inter_op_parallelism_threads=8),
    )
    say_up()
    server.join()


def say_up():
    """Tells `Cluster.wait` that this process is ready."""
    os.write(1, _UP)


def end_with_parent():
    """Ends this process when its parent does, however that ends.

    Its standard input is a pipe that the parent holds open.
    """

    def watch():
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def free_ports(count):
    """Ports of this machine that nobody listens on.

    Drawn below the range from which the kernel gives connections theirs, so that
    none is taken until its server listens.
    """
    sockets = {}
    draw = random.SystemRandom()  # whatever seed somebody has set
    try:
        while len(sockets) < count:
            each, port = socket.socket(), draw.randrange(10_000, 32_000)
            try:
                each.bind(("127.0.0.1", port))
            except OSError:  # somebody has it
                each.close()
            else:
                sockets[port] = each
        return list(sockets)
    finally:
        for each in sockets.values():
            each.close()


def config(addresses, job, index=0):
    """A task's `TF_CONFIG`, given the addresses of each job's tasks."""
    task = {"type": job, "index": index}
    return json.dumps({"cluster": addresses, "task": task})


class Task:
    """A process in a group of its own, with a pipe to its standard input."""

    def __init__(self, command, environment, pass_fds=()):
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            start_new_session=True,
            pass_fds=pass_fds,
        )

    def kill(self):
        """As by `kill -9`, with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self):
        """Kills it and lets go of its pipes."""
        self.kill()
        for file in (self.process.stdin, self.process.stdout, self.log):
            file.close()

    def wait_up(self, seconds=180):
        """Until it says that it is up.

        Raises:
            RuntimeError: if it ends instead, or time is up.
        """
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            in_time = ready.select(max(0, seconds))
            if in_time and self.process.stdout.readline() == _UP:
                return
        raise RuntimeError(f"a process did not come up. Its log:\n{self.said()}")

    def said(self, characters=4000):
        """The end of what it wrote to standard error."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-characters:]


class Cluster:
    """Starts a process for each task, and ends them all.

    Args:
        jobs: job name -> number of tasks.
        own: the job whose task 0 is the caller's to run, so that it is not started.
        command: what each process runs. Default: a server.
        environment: variables for all processes.
    """

    def __init__(self, jobs, own=None, command=_SERVER, environment=()):
        ports = iter(free_ports(sum(jobs.values())))
        self.addresses = {
            job: [f"127.0.0.1:{next(ports)}" for _ in range(count)]
            for job, count in jobs.items()
        }
        self.command = list(command)
        self.environment = dict(environment)
        self.tasks = {}
        try:
            for job, count in jobs.items():
                for index in range(int(job == own), count):
                    self.start(job, index)
        except BaseException:
            self.close()
            raise

    def config(self, job, index=0):
        """The `TF_CONFIG` of a task."""
        return config(self.addresses, job, index)

    def start(self, job, index):
        """Starts a task, or starts it again."""
        if (job, index) in self.tasks:
            self.tasks[job, index].close()
        config = {"TF_CONFIG": self.config(job, index)}
        self.tasks[job, index] = Task(self.command, {**self.environment, **config})

    def wait(self, seconds=180):
        """Until all tasks are up."""
        deadline = time.monotonic() + seconds
        for task in self.tasks.values():
            task.wait_up(deadline - time.monotonic())
        return self

    def kill(self, job, index):
        """As by `kill -9`."""
        self.tasks[job, index].kill()

    def close(self):
        """Ends all tasks."""
        for task in self.tasks.values():
            task.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


if __name__ == "__main__":
    serve()
