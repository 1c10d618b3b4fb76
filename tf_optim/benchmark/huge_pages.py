"""What `tf_optim.use_huge_pages` is worth, by the size of the table.

    python -m tf_optim.benchmark.huge_pages [--optimizer Adam] [--json FILE]

Timed as `python -m tf_optim.benchmark.features` does: the same steps of the same ids,
with variables and slots in the pages that TensorFlow gets, and in huge ones.
"""

import argparse
import json

from tf_optim.benchmark import cases, features

CASES = ("growth-100k", "growth-1m", "growth-10m", "sparse-uniform")
PAGES = {"plain": {}, "huge pages": {}}


def table(rows):
    """The rows as Markdown."""
    lines = [
        "| case | plain, ms | huge pages, ms | of plain |",
        "|---|---:|---:|---:|",
    ]
    for plain, huge in zip(rows[::2], rows[1::2], strict=True):
        (case,) = cases.select([plain["case"]])
        figure = huge["ours"]
        cells = [case.title, f"{plain['ours']['ms']:.3g}", f"{figure['ms']:.3g}"]
        cells.append(f"{figure['ratio']:.2f}x +- {figure['spread']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--optimizer", default="Adam")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args(arguments)
    rows = [
        row
        for case in options.case or CASES
        for row in features.measure(case, options.optimizer, PAGES, ("ours",))
    ]
    print(table(rows))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
