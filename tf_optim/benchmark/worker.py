"""A worker process: makes subjects and times them when it is told to.

Run by the parent as a script with the kind of worker as argument. A request is
a line of JSON on standard input, its answer a line on standard output; what
libraries print goes to standard error.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import statistics
import sys
import time
import types

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def _use_bare_package():
    """Lets `tf_optim.benchmark` be imported without TensorFlow.

    torch is timed in a process that holds torch alone, so the package's
    __init__, which imports TensorFlow, must not run there.
    """
    package = types.ModuleType("tf_optim")
    package.__path__ = [str(_PACKAGE), str(_PACKAGE.parent / "bazel-bin")]
    sys.modules["tf_optim"] = package


class Worker:
    """The subjects of one work at a time, by name.

    Args:
      kind: a key of `subjects.WORKERS`.
      threads: that every subject may use.
    """

    # Calls that one figure is the mean of, and what goes before it.
    _MOST_CALLS = 1000
    _UNTIMED = 0.2

    def __init__(self, kind, threads):
        self._kind = kind
        self._threads = threads
        self._inputs = None
        self._subjects = {}

    def hello(self):
        """Sets thread counts; returns the versions of what is installed."""
        from tf_optim.benchmark import limits, subjects

        limits.Limit.threads = self._threads
        found = {"numpy": importlib.metadata.version("numpy")}
        if subjects.WORKERS[self._kind]["tensorflow"]:
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(self._threads)
            tf.config.threading.set_inter_op_parallelism_threads(self._threads)
            name = "tf_keras" if self._kind == "tf_keras" else "keras"
            found |= {"tensorflow": tf.__version__}
            return found | {name: importlib.metadata.version(name)}
        if self._kind.startswith("torch"):
            try:
                import torch
            except ImportError:
                return found
            torch.set_num_threads(self._threads)
            found["torch"] = torch.__version__
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found["fbgemm"] = importlib.metadata.version("fbgemm-gpu-cpu")
        return found

    def prepare(self, subject, work, warm_up=0.2):
        """Makes, checks and warms up a subject, `warm_up` seconds after the check.

        With `warm_up` None the check is all, and "extra_mb" is None.

        Returns:
          A dict: "bytes", "extra_mb", "note" and "lazy" of the subject when it may
          be timed, else "reason" why not.
        """
        from tf_optim.benchmark import check, memory, subjects
        from tf_optim.benchmark.cases import Inputs
        from tf_optim.benchmark.work import Work

        work = Work.from_json(work)
        if self._inputs is None or self._inputs.case != work.case:
            self._inputs = Inputs(work.case)
        entry = subjects.find(subject, self._inputs.case.kind)
        try:
            subjects.check_has_options(subject, work)
            made = entry.load()(work, self._inputs)
            note = ""
            if subject != subjects.LIMIT:
                verdict = check.check(made, work, self._inputs)
                if made.ours and verdict.wrong:
                    return {"reason": f"error: {verdict}", "failed": True}
                note = ", ".join(filter(None, (verdict.note, made.note)))
            extra = None
            if warm_up is not None:
                end = time.perf_counter() + warm_up
                extra = memory.extra_mb(made.make_step)
                while time.perf_counter() < end:
                    made.make_step()
        except subjects.Unsupported as reason:
            return {"reason": str(reason)}
        except subjects.NotInstalled as missing:
            return {"reason": f"{missing} is not installed", "missing": True}
        self._subjects[subject] = made
        return {
            "bytes": made.bytes_moved(work, self._inputs),
            "extra_mb": extra,
            "note": note,
            "lazy": made.lazy,
        }

    def tune(self, subject):
        """Lets a subject settle what it may settle, while nothing else runs."""
        self._subjects[subject].tune()
        return {}

    def time(self, subject, budget):
        """Seconds of a step, the mean of those that go into `budget` seconds.

        Of everybody, steps of a fifth of that go before, at least one, and are not
        timed: the others have had the caches.
        """
        made = self._subjects[subject]
        end = time.perf_counter() + self._UNTIMED * budget
        made.seconds()
        while time.perf_counter() < end:
            made.seconds()
        end = time.perf_counter() + budget
        taken = [made.seconds()]
        while time.perf_counter() < end and len(taken) < self._MOST_CALLS:
            taken.append(made.seconds())
        return {"seconds": statistics.mean(taken)}

    def release(self, inputs):
        """Forgets the subjects, and the inputs too when told to."""
        from tf_optim.benchmark import memory

        self._subjects.clear()
        if inputs:
            self._inputs = None
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].keras.backend.clear_session()
        memory.trim()
        return {}


def serve(worker, requests, answers):
    """Answers requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        do = request.pop("do")
        try:
            answer = getattr(worker, do)(**request)
        except Exception as error:  # the parent decides what an error means
            text = " ".join(str(error).split())
            answer = {
                "reason": f"error: {type(error).__name__}: {text[:300]}",
                "failed": True,
            }
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main():
    kind, threads = sys.argv[1], int(sys.argv[2])
    sys.path[0] = str(_PACKAGE.parent)
    if kind != "keras3":
        _use_bare_package()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Worker(kind, threads), sys.stdin, answers)
    answers.flush()
    # TensorFlow and torch take seconds to unload, and nobody waits for it.
    os._exit(0)


if __name__ == "__main__":
    main()
