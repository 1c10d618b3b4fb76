"""What `tf_optim.use_huge_pages` is worth, by the size of the table.

    python -m tf_optim.benchmark.huge_pages [--optimizer Adam] [--json FILE]

Timed as `python -m tf_optim.benchmark.features` does: the same steps of the same ids,
with variables and slots in the pages that TensorFlow gets, and in huge ones.
"""

from tf_optim.benchmark import cases, command, features

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
    options = command.parser(__doc__, CASES).parse_args(arguments)

    def measure(case):
        return features.measure(case, options.optimizer, PAGES, ("ours",))

    rows = command.rows_of(options.case, CASES, measure)
    command.show(table(rows), rows, options.json)


if __name__ == "__main__":
    main()
