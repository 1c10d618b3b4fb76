"""Calls functions in other Python processes.

A process has one TensorFlow, with the devices and the cluster that it got first, so
a test that needs others runs its functions in a child.
"""

import importlib
import multiprocessing.connection
import os
import pickle
import sys
import time
import traceback

from examples import local_cluster

SECONDS = 600  # far more than any call takes, on a busy machine too


class ChildError(Exception):
    """What a function raised in a child: its class's name, and its text."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Child:
    """A Python process that calls functions.

    Functions are of modules that the child can import, and their arguments and
    results can be pickled.
    """

    def __init__(self, environment=()):
        self.end, other = multiprocessing.connection.Pipe()
        with other:
            self.task = local_cluster.Task(
                [sys.executable, "-m", "tests.children", str(other.fileno())],
                dict(environment),
                pass_fds=[other.fileno()],
            )

    def begin(self, function, *arguments, **options):
        """Starts a call; `result` waits for it."""
        name = function.__module__, function.__qualname__
        self.end.send((*name, arguments, options))

    def result(self, seconds=SECONDS):
        """What the call returned.

        Raises:
            ChildError: if it raised, the child has died or time is up.
        """
        try:
            if self.end.poll(seconds):
                good, value = pickle.loads(self.end.recv_bytes())
                if good:
                    return value
                raise ChildError(*value)
            why = f"no answer in {seconds} s"
        except (EOFError, ConnectionError):
            why = "the process has died"
        self.task.kill()
        raise ChildError("Ended", f"{why}. Its log:\n{self.task.said()}")

    def call(self, function, *arguments, **options):
        """Calls and waits."""
        self.begin(function, *arguments, **options)
        return self.result()

    def is_alive(self):
        return self.task.process.poll() is None

    def close(self):
        self.task.close()
        self.end.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def call_all(children, function, *arguments, **options):
    """The same call in all of them at once."""
    for child in children:
        child.begin(function, *arguments, **options)
    deadline = time.monotonic() + SECONDS
    return [c.result(max(0, deadline - time.monotonic())) for c in children]


def _answer(end):
    while True:
        try:
            module, name, arguments, options = end.recv()
        except EOFError:
            return
        try:
            function = getattr(importlib.import_module(module), name)
            answer = pickle.dumps((True, function(*arguments, **options)))
        except Exception as error:
            text = f"{error}\n{traceback.format_exc()}"
            answer = pickle.dumps((False, (type(error).__name__, text)))
        end.send_bytes(answer)


if __name__ == "__main__":
    local_cluster.end_with_parent()
    os.dup2(2, 1)  # what it prints goes to its log
    _answer(multiprocessing.connection.Connection(int(sys.argv[1])))
    os._exit(0)  # TensorFlow may wait for a cluster that is gone
