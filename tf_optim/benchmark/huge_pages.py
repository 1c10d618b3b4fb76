"""What huge pages are worth, by the size of the table.

    python -m tf_optim.benchmark.huge_pages [--optimizer Adam] [--json FILE]

Timed as `python -m tf_optim.benchmark.features` does, the same steps of the same ids:
with variables and slots in the pages that TensorFlow gets, as they are made (large
slots in huge pages), and after `tf_optim.use_huge_pages`.
"""

from tf_optim.benchmark import cases, command, features, turns

CASES = ("growth-100k", "growth-1m", "growth-10m", "sparse-uniform")
PAGES = {"none in huge pages": {}, "slots in huge pages": {}, "all in huge pages": {}}


def table(rows):
    """The rows as Markdown."""
    lines = [
        "| case | none in huge pages, ms | slots, ms | of none | all, ms | of none |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for of_case in zip(*[iter(rows)] * len(PAGES), strict=True):
        (case,) = cases.select([of_case[0]["case"]])
        cells = [case.title, f"{of_case[0]['ours']['ms']:.3g}"]
        for row in of_case[1:]:
            cells += turns.cells(row["ours"])
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
