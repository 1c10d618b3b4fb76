"""Starts the workers, drives them in rounds, and makes rows of their figures."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from tf_optim.benchmark import memory, subjects
from tf_optim.benchmark.work import Work

# Between two subjects: until the threads of the last one have stopped spinning.
_PAUSE = 0.01
# Share of the free memory that may be planned with.
_MEMORY_SHARE = 0.7
# Workers are started anew when less than this share of it is free between works:
# TensorFlow keeps in its pool what it has once had.
_FREE_SHARE = 0.6
# What is nearly as fast as ours: at most so many times as slow, or as fast.
_NEAR = 1.5
# Below, the variables lie in the caches, and nowhere in memory.
_LARGE = 2**25


@dataclasses.dataclass(frozen=True)
class Settings:
    """How long to measure.

    Attributes:
      rounds: figures per subject.
      budget: seconds of one figure.
      patience: seconds of all figures of a subject. A slower one sits out the
        rounds that are left, but takes part in three.
      threads: that every subject may use.
      placements: how often subjects as fast as ours, or nearly, are made and
        timed. Each time their variables lie elsewhere in memory, in new
        processes, which alone can change a time by a fifth.
    """

    rounds: int = 9
    budget: float = 0.15
    patience: float = 4.0
    threads: int = 1
    placements: int = 3


class Process:
    """A worker process and the pipes to it.

    `pinned` to the first cores, as many as it has threads, so that times compare.
    """

    def __init__(self, kind, threads, pinned=True):
        self.kind = kind
        environment = dict(
            os.environ,
            OMP_NUM_THREADS=str(threads),
            MKL_NUM_THREADS=str(threads),
            TF_NUM_INTRAOP_THREADS=str(threads),
            TF_CPP_MIN_LOG_LEVEL="3",
            # Tables of the limit lie in pages of the same size as anybody's.
            NUMPY_MADVISE_HUGEPAGE="0",
            CUDA_VISIBLE_DEVICES="-1",
            **subjects.WORKERS[kind]["env"],
        )
        self._log = tempfile.TemporaryFile(  # noqa: SIM115 - open while it runs
            "w+", encoding="utf-8", errors="replace"
        )
        script = pathlib.Path(__file__).with_name("worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), kind, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which stops it
        )
        if pinned and hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))[:threads]
            os.sched_setaffinity(self._process.pid, cores)
        self.versions = self.ask(do="hello")

    def ask(self, **request):
        """The worker's answer; a dead worker's is {"reason", "dead"}."""
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-1:] or ["it said nothing"]
        how = f"died ({status}): {last[0][:200]}"
        if status == -signal.SIGKILL:
            how = "was killed, as happens where memory runs out"
        return {
            "reason": f"error: the {self.kind} worker {how}",
            "failed": True,
            "dead": True,
        }

    def stop(self):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclasses.dataclass
class Record:
    """What has been found of one work.

    Attributes:
      work: the `Work`.
      ready: subject -> dict with "bytes", "extra_mb", "note".
      rounds: for each round the seconds of a step, by subject.
    """

    work: Work
    ready: dict = dataclasses.field(default_factory=dict)
    rounds: list = dataclasses.field(default_factory=list)


class Runner:
    """Measures one work after the other, those worth it several times.

    Args:
      settings: `Settings`.
      wanted: names of subjects; all when empty.
      advance: called after every bit of progress with a short text and how much
        it was, 1 + rounds for a work.
    """

    def __init__(self, settings, wanted=(), advance=lambda text, share: None):
        self._settings = settings
        self._wanted = wanted
        self._advance = advance
        self._processes = {}
        self._records = {}
        self.not_measured = []

    def __enter__(self):
        self._free = memory.available_bytes()
        self._start()
        return self

    def __exit__(self, *_):
        self._stop()

    def _start(self):
        kinds = {e.worker for e in subjects.SUBJECTS if self._is_wanted(e)}
        with concurrent.futures.ThreadPoolExecutor() as pool:
            started = pool.map(lambda k: Process(k, self._settings.threads), kinds)
            self._processes = {process.kind: process for process in started}

    def _stop(self):
        for process in self._processes.values():
            process.stop()

    def _is_wanted(self, entry):
        always = (subjects.OURS, subjects.LIMIT)
        return not self._wanted or entry.name in self._wanted or entry.name in always

    @property
    def versions(self):
        """Versions of the frameworks, by name."""
        merged = {}
        for process in self._processes.values():
            merged.update(process.versions)
        return {k: v for k, v in sorted(merged.items()) if isinstance(v, str)}

    @property
    def rows(self):
        """The JSON records of all that has been measured."""
        return [row for record in self._records.values() for row in make_rows(record)]

    def measure_all(self, planned, saved=lambda: None):
        """Measures every work of `planned`; calls `saved` after each.

        Then again in new processes: what is nearly as fast as ours.
        """
        for placement in range(self._settings.placements):
            if placement:
                self._stop()
                self._start()
            for now, after in zip(planned, [*planned[1:], None], strict=True):
                if placement == 0:
                    entries = subjects.select(self._wanted, now.case.kind)
                else:
                    entries = self._nearly_as_fast(now)
                self._measure(now, entries, after is None or after.case != now.case)
                saved()

    def _nearly_as_fast(self, work):
        """Entries that are worth another placement, the last prepared first."""
        record = self._records[work.case.name, work.label]
        if work.case.kind == "fit" or 4 * work.case.numbers < _LARGE:
            return []
        ratios = {r["subject"]: r["ratio_to_ours"] for r in make_rows(record)}
        near = {n for n, r in ratios.items() if r and 1 / _NEAR < r < _NEAR}
        entries = subjects.select(self._wanted, work.case.kind)[::-1]
        return [e for e in entries if e.name in near | {subjects.LIMIT}]

    def _measure(self, work, entries, last_of_case):
        """Adds rounds of `entries`, and what has none to `not_measured`."""
        record = self._records.setdefault((work.case.name, work.label), Record(work))
        groups = self._groups(work, entries)
        for group in groups:
            again = bool(record.rounds)
            ready = self._prepare(work, group, 1 / len(groups), quiet=again)
            record.ready = {**ready, **record.ready}
            ready = [entry for entry in group if entry.name in ready]
            self._add_rounds(record, ready, 1 / len(groups))
            self._each_process(lambda p: p.ask(do="release", inputs=last_of_case))
            if memory.available_bytes() < _FREE_SHARE * self._free:
                self._stop()
                self._start()
        if not groups:
            self._advance(f"{work.case.name} {work.label}", 1 + self._settings.rounds)

    def _groups(self, work, entries):
        """Entries that fit into memory together, each group with ours and limit."""
        if not entries:
            return []
        case = work.case
        item = 2 if case.dtype == "bfloat16" else 4
        # The variable, its slots, and temporaries of five variables.
        need = case.numbers * (6 * item + 4 * work.full_slots)
        room = max(3, int(memory.available_bytes() * _MEMORY_SHARE // need))
        always = (subjects.OURS, subjects.LIMIT)
        others = [e.name for e in entries if e.name not in always]
        size = max(1, room - len(always))
        groups = []
        for start in range(0, max(1, len(others)), size):
            names = (*always, *others[start : start + size])
            groups.append([e for e in entries if e.name in names])
        return groups

    def _each_process(self, call, processes=None):
        """Calls for every process at once; a dead one is started anew."""
        processes = list(processes or self._processes.values())
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answers = pool.map(call, processes)
            return {p.kind: a for p, a in zip(processes, answers, strict=True)}

    def _prepare(self, work, entries, share, quiet):
        """Answers of the subjects that may be timed, by name."""

        def prepare_all(process):
            mine = [entry for entry in entries if entry.worker == process.kind]
            answers = []
            for entry in mine:
                answers.append(
                    process.ask(
                        do="prepare",
                        subject=entry.name,
                        work=dataclasses.asdict(work),
                    )
                )
                if answers[-1].get("dead"):
                    process = Process(process.kind, self._settings.threads)
                    self._processes[process.kind] = process
            return list(zip((entry.name for entry in mine), answers, strict=True))

        ready = {}
        for answers in self._each_process(prepare_all).values():
            dead = any(answer.get("dead") for _, answer in answers)
            for name, answer in answers:
                # A worker that died took the subjects before it along.
                if dead and "reason" not in answer:
                    answer = {"reason": "error: its worker died", "failed": True}
                if "reason" not in answer:
                    ready[name] = answer
                elif not quiet or answer.get("failed"):
                    self._miss(work, name, answer)
        self._advance(f"{work.case.name} {work.label}", share)
        return ready

    def _miss(self, work, subject, answer):
        miss = {"case": work.case.name, "optimizer": work.label, "subject": subject}
        miss["reason"] = answer["reason"]
        miss["kind"] = next((k for k in ("failed", "missing") if answer.get(k)), "none")
        self.not_measured.append(miss)

    def _add_rounds(self, record, entries, share):
        """Adds the seconds of each entry's subject, round by round."""
        work, entries = record.work, list(entries)
        spent = {entry.name: 0.0 for entry in entries}
        for number in range(self._settings.rounds):
            record.rounds.append({})
            start = number % max(1, len(entries))
            for entry in entries[start:] + entries[:start]:
                if entry.name not in record.ready or self._sits_out(
                    number, spent, entry
                ):
                    continue
                time.sleep(_PAUSE)
                before = time.perf_counter()
                answer = self._processes[entry.worker].ask(
                    do="time", subject=entry.name, budget=self._settings.budget
                )
                spent[entry.name] += time.perf_counter() - before
                if "seconds" in answer:
                    record.rounds[-1][entry.name] = answer["seconds"]
                else:
                    self._drop(record, entry, answer, entries)
            self._advance(f"{work.case.name} {work.label}", share)

    def _sits_out(self, number, spent, entry):
        return number >= 3 and spent[entry.name] > self._settings.patience

    def _drop(self, record, entry, answer, entries):
        """Takes out a subject that failed while timed, or all a dead worker had."""
        lost = [entry]
        if answer.get("dead"):
            lost = [e for e in entries if e.worker == entry.worker]
            self._processes[entry.worker] = Process(
                entry.worker, self._settings.threads
            )
        for other in lost:
            for each in record.rounds:
                each.pop(other.name, None)
            if record.ready.pop(other.name, None) is not None:
                self._miss(record.work, other.name, answer)


def make_rows(record):
    """The JSON records of one work, ours first.

    A time is a median of all rounds. A ratio is one of the ratios within a round,
    so that a machine that is slow for a while is slow for both.
    """
    rows = []
    for name in sorted(record.ready, key=subjects.names().index):
        about = record.ready[name]
        seconds = [each[name] for each in record.rounds if name in each]
        if not seconds:
            continue
        quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds
        median = statistics.median(seconds)
        moved = about["bytes"]
        fraction = _ratio(record, subjects.LIMIT, name)
        if fraction and moved:
            # The limit may move other bytes, where slots are stored otherwise.
            fraction *= moved / record.ready[subjects.LIMIT]["bytes"]
        rows.append(
            {
                "case": record.work.case.name,
                "optimizer": record.work.label,
                "subject": name,
                "ms": 1e3 * median,
                "spread": [1e3 * quartiles[0], 1e3 * quartiles[-1]],
                "rounds": len(seconds),
                "bytes": moved,
                "gbps": moved / median / 1e9 if moved else None,
                "limit_fraction": fraction if moved else None,
                "ratio_to_ours": _ratio(record, name, subjects.OURS),
                "extra_mb": about["extra_mb"],
                "note": about["note"],
            }
        )
    return rows


def _ratio(record, above, below):
    """Median of the ratios within the rounds that have both; None without any."""
    ratios = [r[above] / r[below] for r in record.rounds if {above, below} <= r.keys()]
    return statistics.median(ratios) if ratios else None
