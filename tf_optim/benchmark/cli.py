"""The command line."""

import argparse
import importlib.util
import json
import os
import sys

from tf_optim.benchmark import cases, markdown, own, report, runner, subjects, work

_QUICK = {"rounds": 3, "budget": 0.05, "placements": 1}
_BATCH = 32


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m tf_optim.benchmark",
        description="Times the optimizer steps of tf_optim and of everything that "
        "could be used instead, on this machine.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer cases, optimizers and rounds, one placement: 5 min or more",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="every optimizer in the large cases, with the variants of its options",
    )
    yours = parser.add_mutually_exclusive_group()
    yours.add_argument(
        "--model",
        metavar="FILE.keras",
        help="measure the trainable variables of this model instead of a case, by the "
        "optimizer that it was compiled with, or else Adam",
    )
    yours.add_argument(
        "--shapes",
        metavar="FILE",
        help="measure variables of these shapes, one a line: SHAPE [DTYPE] [sparse N], "
        "as in 30522x768 float32 sparse 4096; by Adam, if no --optimizer is named",
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help=f"with --model: examples of a step (default: {_BATCH}), which says how "
        "many ids its embeddings look up",
    )
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="NAME",
        help="measure this case only (repeatable; 'growth' means all of growth-*)",
    )
    parser.add_argument(
        "--optimizer",
        action="append",
        default=[],
        metavar="NAME",
        help="measure this optimizer only, in every case chosen (repeatable)",
    )
    parser.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="NAME",
        help="measure this subject, besides ours and the limit (repeatable)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=_cores(),
        help="threads of every subject (default: all cores, here %(default)s)",
    )
    parser.add_argument(
        "--placements",
        type=int,
        metavar="N",
        help="how often what is close is made and timed, each time in new processes "
        f"(default: {runner.Settings.placements}, with --quick {_QUICK['placements']})",
    )
    parser.add_argument("--json", metavar="FILE", help="write the records to FILE")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the records")
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        help="print the tables of README.md and docs/performance.md from the records "
        "in FILE, and stop",
    )
    parser.add_argument(
        "--charts",
        metavar="FILE",
        help="draw a summary and a chart per case from the records in FILE, beside it, "
        "and stop",
    )
    parser.add_argument(
        "--list", action="store_true", help="list cases and subjects, and stop"
    )
    return parser


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _list():
    lines = ["Cases (* are part of --quick):"]
    for case in cases.CASES:
        star = "*" if case.quick else " "
        lines.append(f"  {star} {case.name:<16} {case.title}")
    lines += ["", "Subjects:"]
    lines += [f"    {name}" for name in subjects.names()]
    return "\n".join(lines)


def _chosen(options):
    """The cases and the optimizers that are named.

    Raises:
      ValueError: for what does not exist or cannot be read.
    """
    mine = options.model or options.shapes
    if options.batch is not None and not options.model:
        raise ValueError(f"--batch needs --model. Received: {options.batch}.")
    if not mine:
        return cases.select(options.case, options.quick), options.optimizer
    if options.case:
        raise ValueError(
            f"--model and --shapes take no --case. Received: {options.case[0]}."
        )
    try:
        if options.shapes:
            return [own.from_shapes(mine)], options.optimizer or ["Adam"]
        batch = _BATCH if options.batch is None else options.batch
        if batch < 1:
            raise ValueError(f"--batch must be at least 1. Received: {batch}.")
        case = own.from_model(mine, batch)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{mine} cannot be read: {error}") from error
    named = own.optimizer_of(mine)
    return [case], options.optimizer or [named if work.exists(named) else "Adam"]


def _progress(total):
    """`advance(text, share)` and `close()` of a bar; plain lines without tqdm."""
    if importlib.util.find_spec("tqdm") is None:
        last = [""]

        def advance(text, share):
            if text != last[0]:
                print(text, file=sys.stderr)
            last[0] = text

        return advance, lambda: None
    import tqdm

    bar = tqdm.tqdm(
        total=total,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]",
    )

    def advance(text, share):
        bar.set_description(text, refresh=False)
        bar.update(share)

    return advance, bar.close


def main(arguments=None):
    """Runs the command; returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        print(_list())
        return 0
    if options.markdown:
        with open(options.markdown, encoding="utf-8") as file:
            record = json.load(file)
        print(markdown.summary(record), *markdown.tables(record), sep="\n\n")
        return 0
    if (options.plot or options.charts) and not importlib.util.find_spec("matplotlib"):
        parser.error("--plot and --charts need matplotlib: pip install tf_optim[bench]")
    if options.charts:
        from tf_optim.benchmark.plot import write_charts

        print(*write_charts(options.charts), sep="\n")
        return 0
    if options.threads < 1:
        parser.error(f"--threads must be at least 1. Received: {options.threads}.")
    if options.placements is not None and options.placements < 1:
        received = options.placements
        parser.error(f"--placements must be at least 1. Received: {received}.")
    try:
        chosen, optimizers = _chosen(options)
        subjects.select(options.subject, "dense")
        planned = work.plan(chosen, optimizers, options.quick, options.full)
    except ValueError as error:
        parser.error(str(error))
    chosen_settings = _QUICK if options.quick else {}
    if options.placements is not None:
        chosen_settings = {**chosen_settings, "placements": options.placements}
    settings = runner.Settings(threads=options.threads, **chosen_settings)
    advance, close = _progress(
        settings.placements * len(planned) * (settings.rounds + 1)
    )

    def save(run):
        """Every time, so that nothing is lost of an hour that ends early."""
        if options.json:
            about = report.machine(run.versions, settings.threads)
            report.write_json(options.json, run.rows, run.not_measured, about)

    interrupted = False
    with runner.Runner(settings, options.subject, advance) as run:
        try:
            run.measure_all(planned, saved=lambda: save(run))
        except KeyboardInterrupt:  # what has been measured is shown all the same
            interrupted = True
        about = report.machine(run.versions, settings.threads)
    close()
    titles = {case.name: case.title for case in chosen}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(report.table(run.rows, titles))
    for notes in (report.explanation(run.rows), report.footnotes(run.not_measured)):
        if notes:
            print("\n" + notes)
    save(run)
    if options.plot and run.rows:
        from tf_optim.benchmark.plot import write_plot

        write_plot(options.plot, run.rows, about)
    if interrupted:
        print("\nInterrupted: the rest was not measured.")
        return 130
    ours = [miss for miss in run.not_measured if miss["subject"].startswith("ours")]
    return 1 if any(miss["kind"] == "failed" for miss in ours) else 0
