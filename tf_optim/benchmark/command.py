"""What the commands that measure ours alone, or beside stock, have in common."""

import argparse
import json


def parser(doc, cases, default="Adam"):
    """A parser of the arguments that all of them take.

    Args:
        doc: of the command; its first line is shown.
        cases: names.
        default: the optimizer, where none is named.
    """
    made = argparse.ArgumentParser(description=doc.split("\n")[0])
    made.add_argument("--optimizer", default=default)
    made.add_argument("--case", action="append", choices=list(cases))
    made.add_argument("--json", help="a file for the figures")
    return made


def rows_of(chosen, cases, measure):
    """The rows of all cases; `chosen` are those that were asked for, or None."""
    return [row for case in chosen or cases for row in measure(case)]


def show(text, rows, path):
    """Prints a table, and writes its figures to a file if there is a path."""
    print(text)
    if path:
        with open(path, "w") as file:
            json.dump(rows, file, indent=1)
