"""docs/compatibility.md, from the records of build_deps/matrix.py."""

import collections
import pathlib

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "compatibility.md"
BEGIN, END = "<!-- build_deps/matrix.py: begin -->", "<!-- end -->"


def _row(record, run):
    failed = len(run["failed"])
    cells = [
        run["tensorflow"],
        record["python"],
        run["keras"],
        run["tf_keras"],
        run["numpy"],
        record["jit"],
        f"{run['passed']} passed" + (f", {failed} failed" if failed else ""),
        f"{record['date']}, {record['commit']}",
    ]
    return "| " + " | ".join(cells) + " |"


def _order(name):
    """Newest TensorFlow first."""
    numbers = [part.split(" ")[1] for part in name.split(", ")]
    return [-int(number.split(".")[1]) for number in numbers]


def table(records):
    """Markdown: a line for each run of tests."""
    columns = ["TensorFlow", "Python", "Keras", "tf_keras", "NumPy", "`jit_compile`"]
    columns += ["tests", "run on, commit"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name in sorted(records, key=_order):
        lines += [_row(records[name], run) for run in records[name]["runs"]]
    failed = collections.Counter(
        f"- TensorFlow {run['tensorflow']}, Keras {run['keras']}: `{_function(test)}`"
        for record in records.values()
        for run in record["runs"]
        for test in run["failed"]
    )
    lines.append("")
    for line, times in sorted(failed.items()):
        lines.append(line if times == 1 else f"{line}, {times} times")
    return "\n".join(lines).rstrip()


def _function(test):
    """The test without its parameters."""
    return test.partition("[")[0]


def write_page(records):
    """Puts the table into the page; returns it."""
    made = table(records)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}")
    return made
