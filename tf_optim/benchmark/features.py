"""What Keras' features cost beside the plain step, ours and stock's.

    python -m tf_optim.benchmark.features [--optimizer Adam] [--case sparse] [--jit]
        [--json F]

Steps are made in a loop inside a function, as in the main benchmark; with `--jit` of
one with `jit_compile=True`, as Keras 3's `fit` makes them. All subjects of
a case live in one process and take turns; a figure is the median over rounds, its
spread half of the range of the middle half. A feature's ratio is taken within each
round, to the plain step of the same make.
"""

import dataclasses
import sys

from tf_optim.benchmark import cases, command, turns, work

FEATURES = {
    "plain": {},
    "weight_decay": {"weight_decay": 0.01},
    "clipvalue": {"clipvalue": 0.5},
    "clipnorm": {"clipnorm": 1.0},
    "global_clipnorm": {"global_clipnorm": 1.0},
    "use_ema": {"use_ema": True},
    "gradient_accumulation_steps=4": {"gradient_accumulation_steps": 4},
    "LossScaleOptimizer": {},  # ours around ours
    "Keras' LossScaleOptimizer": {},
}
# In one of four steps: as many as a loop takes are a power of two.
OURS_ALONE = {
    "Lookahead": lambda module: module.Lookahead(sync_period=4),
    "StochasticWeightAveraging": lambda module: module.StochasticWeightAveraging(
        average_period=4
    ),
}
CASES = {"dense": "dense", "sparse": "sparse-uniform"}
ROUNDS, STOCK_ROUNDS = 15, 5


def _subject(base, features, feature, work_, inputs):
    import tensorflow as tf

    import tf_optim
    from tf_optim import keras_private
    from tf_optim.benchmark import tf_subjects

    class Subject(base):
        def prepare(self, work_):
            super().prepare(work_)
            if feature.endswith("LossScaleOptimizer"):
                wrapper = tf.keras.mixed_precision.LossScaleOptimizer
                if feature == "LossScaleOptimizer" and issubclass(
                    base, tf_subjects.Ours
                ):
                    wrapper = tf_optim.LossScaleOptimizer
                self._optimizer = wrapper(self._optimizer, initial_scale=1.0)
                self._optimizer.build(self._variables)
            if feature == "all in huge pages":
                tf_optim.use_huge_pages(self._optimizer, min_bytes=1 << 21)
            if feature == "none in huge pages":
                for slot in map(keras_private.raw, self._optimizer._variables):
                    slot.assign(tf.identity(slot) + tf.zeros([], slot.dtype))

    options = {**work_.options, **features[feature]}
    if feature in OURS_ALONE:
        options["averaging"] = OURS_ALONE[feature](tf_optim)
    subject = Subject(dataclasses.replace(work_, options=options), inputs)
    subject.make_step()
    subject.tune()
    return subject


def measure(
    case,
    optimizer,
    features=None,
    makes=("ours", "stock"),
    jit=False,
    say=lambda text: print(text, file=sys.stderr),
):
    """Rows of the table: dicts of case, feature, and figures for each make.

    Args:
        case: a key of `CASES`, or the name of another case.
        optimizer: the class's name.
        features: name -> the optimizer's arguments; ratios are to the first of them.
            Default: `FEATURES` and `OURS_ALONE`, which stock lacks.
        makes: whose.
        jit: whether XLA compiles the steps.
        say: is told what goes on.
    """
    from tf_optim.benchmark import tf_subjects

    if features is None:
        features = FEATURES | dict.fromkeys(OURS_ALONE, {})
    (chosen,) = cases.select([CASES.get(case, case)])
    plan = work.plan([chosen], [optimizer])
    work_ = next(each for each in plan if not each.options)
    inputs = cases.Inputs(chosen)
    rows = {name: {"case": case, "feature": name} for name in features}
    for make, base, rounds in (
        ("ours", tf_subjects.OursJit if jit else tf_subjects.Ours, ROUNDS),
        ("stock", tf_subjects.KerasJit if jit else tf_subjects.Keras, STOCK_ROUNDS),
    ):
        if make not in makes:
            continue
        subjects = {}
        has = [name for name in features if make == "ours" or name not in OURS_ALONE]
        for name in has:
            say(f"{case}: making {make} {name}")
            subjects[name] = _subject(base, features, name, work_, inputs)
        told = f"{case}: {make} round {{}} of {rounds}"
        times = turns.take(subjects, rounds, lambda i, told=told: say(told.format(i)))
        for name in has:
            rows[name][make] = turns.figure(times[name], times[next(iter(features))])
    return list(rows.values())


def table(rows):
    """The rows as Markdown."""
    lines = [
        "| case | feature | ours, ms | of ours plain | stock, ms | of stock plain |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [row["case"], row["feature"]]
        for make in ("ours", "stock"):
            cells += turns.cells(row.get(make))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments=None):
    parser = command.parser(__doc__, CASES)
    parser.add_argument("--jit", action="store_true", help="steps that XLA compiles")
    options = parser.parse_args(arguments)

    def measured(case):
        return measure(case, options.optimizer, jit=options.jit)

    rows = command.rows_of(options.case, CASES, measured)
    command.show(table(rows), rows, options.json)


if __name__ == "__main__":
    main()
