"""What slots in fewer bits save, in bytes and in time, beside float32 slots.

    python -m tf_optim.benchmark.slots [--optimizer Adam] [--case dense] [--json FILE]

Timed as `python -m tf_optim.benchmark.features` does. Bytes are those that a step has
to move per element of the gradient that it is given: the gradient once, the variable
and the slots read and written.
"""

from tf_optim.benchmark import command, features

POLICIES = {
    "plain": {},
    "bfloat16": {"slot_dtype": "bfloat16"},
    "int8": {"slot_dtype": "int8"},
    "bfloat16, to nearest": {"slot_dtype": "bfloat16", "stochastic_rounding": False},
    "int8, to nearest": {"slot_dtype": "int8", "stochastic_rounding": False},
}
WIDTH = {"dense": 4096, "sparse": 64}
ELEMENTS = {"dense": 4096 * 4096, "sparse": 8192 * 64}


def bytes_of_slots(policy, slots, width):
    """Per element of a variable whose rows have `width` elements."""
    from tf_optim import packed

    name = POLICIES[policy].get("slot_dtype", "float32")
    return slots * packed.bytes_of(name, (1, width)) / width


def table(rows, slots):
    """The rows as Markdown."""
    lines = [
        "| case | slots | ms | of float32's | bytes of slots per element | bytes moved "
        "per element | GB/s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = bytes_of_slots(row["feature"], slots, WIDTH[row["case"]])
        moved = 12 + 2 * size
        rate = moved * ELEMENTS[row["case"]] / row["ours"]["ms"] / 1e6
        name = "float32" if row["feature"] == "plain" else row["feature"]
        figure = row["ours"]
        cells = [row["case"], name, f"{figure['ms']:.3g}"]
        cells.append(f"{figure['ratio']:.2f}x +- {figure['spread']:.2f}")
        cells += [f"{size:.3g}", f"{moved:.3g}", f"{rate:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments=None):
    options = command.parser(__doc__, features.CASES).parse_args(arguments)
    from tf_optim import specs

    spec = specs.SPECS[options.optimizer]
    slots = sum(slot.per_element and not slot.optional for slot in spec.slots)

    def measure(case):
        return features.measure(case, options.optimizer, POLICIES, ("ours",))

    rows = command.rows_of(options.case, features.CASES, measure)
    command.show(table(rows, slots), rows, options.json)


if __name__ == "__main__":
    main()
