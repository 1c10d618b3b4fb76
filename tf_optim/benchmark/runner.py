"""Starts the workers, drives them in rounds, and makes rows of their figures."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from tf_optim.benchmark import memory, rows, rules, subjects

# Between two subjects: until the threads of the last one have stopped spinning.
_PAUSE = 0.01
# Share of the free memory that may be planned with.
_MEMORY_SHARE = 0.7
# Workers are started anew when less than this share of it is free between works:
# TensorFlow keeps in its pool what it has once had.
_FREE_SHARE = 0.6
# Temporaries that a subject may need for a step, in variables, and beside it the
# gradients that a process holds.
_TEMPORARIES = 8


@dataclasses.dataclass(frozen=True)
class Settings:
    """How long to measure; the same for every subject.

    Attributes:
      rounds: figures per subject and placement.
      budget: seconds of one figure.
      threads: that every subject may use.
      placements: how often what `rules.again` names is made and timed. Each time
        its variables lie elsewhere in memory, in new processes, which alone can
        change a time by a fifth.
    """

    rounds: int = 7
    budget: float = 0.15
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
        self._again = {}  # what is placed again, by work: chosen once
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
        return [
            row for record in self._records.values() for row in rows.make_rows(record)
        ]

    def measure_all(self, planned, saved=lambda: None):
        """Measures every work of `planned`; calls `saved` after each.

        Then again in new processes: what `rules.again` says of the first time.
        """
        for placement in range(self._settings.placements):
            if placement:
                self._stop()
                self._start()
            for now, after in zip(planned, [*planned[1:], None], strict=True):
                key = now.case.name, now.label
                entries = self._again.get(key)
                if placement == 0:
                    entries = subjects.select(self._wanted, now.case.kind)
                last_of_case = after is None or after.case != now.case
                self._measure(now, entries, placement, last_of_case)
                if placement == 0:
                    self._again[key] = self._chosen(now)
                saved()

    def _chosen(self, work):
        """Entries that are placed again; those of `fit` take too long."""
        if work.case.kind == "fit":
            return []
        record = self._records[work.case.name, work.label]
        ratios = {r["subject"]: r["ratio_to_ours"] for r in rows.make_rows(record)}
        names = rules.again(work.case.name, work.optimizer, ratios)
        entries = subjects.select(self._wanted, work.case.kind)
        names |= subjects.always(e for e in entries if e.name in names)
        return [e for e in entries if e.name in names]

    def _measure(self, work, entries, placement, last_of_case):
        """Adds rounds of `entries`, and what has none to `not_measured`."""
        key = work.case.name, work.label
        record = self._records.setdefault(key, rows.Record(work))
        groups = self._groups(work, entries)
        for number, group in enumerate(groups):
            place = *key, placement, number
            names = rules.order([entry.name for entry in group], *place)
            group = sorted(group, key=lambda entry: names.index(entry.name))
            ready = self._prepare(work, group, 1 / len(groups), quiet=placement > 0)
            record.ready = {**ready, **record.ready}
            ready = [entry for entry in group if entry.name in ready]
            # Figures of these count once, however many groups they are timed with.
            repeats = subjects.always(group) if number else frozenset()
            self._add_rounds(record, ready, 1 / len(groups), place, repeats)
            self._each_process(lambda p: p.ask(do="release", inputs=last_of_case))
            if memory.available_bytes() < _FREE_SHARE * self._free:
                self._stop()
                self._start()
        if not groups:
            self._advance(f"{work.case.name} {work.label}", 1 + self._settings.rounds)

    def _groups(self, work, entries):
        """Entries that fit into memory together, each group with what they are
        compared with."""
        if not entries:
            return []
        case = work.case
        item = 2 if case.dtype == "bfloat16" else 4
        room = memory.available_bytes() * _MEMORY_SHARE
        room -= case.numbers * item * _TEMPORARIES
        room = int(room // (case.numbers * (item + 4 * work.full_slots)))
        always = subjects.always(entries)
        others = [entry for entry in entries if entry.name not in always]
        size = max(1, room - len(always))
        groups = []
        for start in range(0, max(1, len(others)), size):
            part = others[start : start + size]
            names = always if start == 0 else subjects.always(part)
            names = names | {entry.name for entry in part}
            groups.append([e for e in entries if e.name in names])
        return groups

    def _each_process(self, call, processes=None):
        """Calls for every process at once; a dead one is started anew."""
        processes = list(processes or self._processes.values())
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answers = pool.map(call, processes)
            return {p.kind: a for p, a in zip(processes, answers, strict=True)}

    def _prepare(self, work, entries, share, quiet):
        """Answers of the subjects that may be timed, by name.

        They are made and tuned one after the other, so that nothing runs beside.
        """
        ready = {}
        sent = dataclasses.asdict(work)

        def ask(entry, **request):
            answer = self._processes[entry.worker].ask(subject=entry.name, **request)
            if answer.get("dead"):
                self._processes[entry.worker] = Process(
                    entry.worker, self._settings.threads
                )
                # A worker that died took the subjects before it along.
                for other in entries:
                    if other.worker == entry.worker and ready.pop(other.name, None):
                        gone = {"reason": "error: its worker died", "failed": True}
                        self._miss(work, other.name, gone)
            if "reason" in answer and (not quiet or answer.get("failed")):
                self._miss(work, entry.name, answer)
            return answer

        for entry in entries:
            answer = ask(entry, do="prepare", work=sent)
            if "reason" not in answer:
                ready[entry.name] = answer
        for entry in entries:
            if entry.name in ready and "reason" in ask(entry, do="tune"):
                ready.pop(entry.name, None)
        self._advance(f"{work.case.name} {work.label}", share)
        return ready

    def _miss(self, work, subject, answer):
        miss = {"case": work.case.name, "optimizer": work.label, "subject": subject}
        miss["reason"] = answer["reason"]
        miss["kind"] = next((k for k in ("failed", "missing") if answer.get(k)), "none")
        self.not_measured.append(miss)

    def _add_rounds(self, record, entries, share, place, repeats):
        """Adds the seconds of each entry's subject, round by round."""
        work, entries = record.work, {entry.name: entry for entry in entries}
        for number in range(self._settings.rounds):
            seconds = {}
            record.rounds.append(rows.Round(seconds, repeats))
            for name in rules.order(entries, *place, number):
                if name not in record.ready:
                    continue
                entry = entries[name]
                time.sleep(_PAUSE)
                answer = self._processes[entry.worker].ask(
                    do="time", subject=name, budget=self._settings.budget
                )
                if "seconds" in answer:
                    seconds[name] = answer["seconds"]
                else:
                    self._drop(record, entry, answer, entries.values())
            self._advance(f"{work.case.name} {work.label}", share)

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
                each.seconds.pop(other.name, None)
            if record.ready.pop(other.name, None) is not None:
                self._miss(record.work, other.name, answer)
