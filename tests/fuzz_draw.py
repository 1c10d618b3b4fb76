"""How hypothesis draws random programs, and how one is printed."""

import math

from hypothesis import strategies as st

import tf_optim
from tests import cases, flavours, fuzz_programs
from tests.fuzz_programs import Gradient, Program

SHAPES = (
    (2,),
    (3, 2),
    (),
    (1,),
    (0,),
    (5, 1),
    (1, 4),
    (3, 0),
    (0, 3),
    (2, 3, 2),
    (4, 33),
    (70,),
)
RATES = (0.125, 0.01, 1.0, 0.0)
STEPS = 4

_AVERAGING = (
    tf_optim.Lookahead(sync_period=2, slow_step_size=0.25),
    tf_optim.StochasticWeightAveraging(start_averaging=1, average_period=2),
)
_flag = st.booleans()
# Hypothesis reads a number that it draws as "how rare": small ones are simple.
_rarely = st.integers(0, 5).map(lambda number: number == 5)


def _features(draw):
    """Keras' arguments: none, or some at once."""
    options = {}
    if not draw(_flag):
        return options
    clip = draw(st.sampled_from([None, "clipnorm", "clipvalue", "global_clipnorm"]))
    if clip:
        options[clip] = draw(st.sampled_from([0.5, 3.0]))
    if draw(_rarely):
        options["weight_decay"] = draw(st.sampled_from([0.0, 0.125, 1.0]))
    if draw(_rarely):
        options["use_ema"] = True
        options["ema_momentum"] = draw(st.sampled_from([0.5, 0.0, 1.0]))
        options["ema_overwrite_frequency"] = draw(st.sampled_from([None, 1, 2]))
    elif draw(_rarely):
        options["averaging"] = draw(st.sampled_from(_AVERAGING))
        return options
    if not flavours.LEGACY and draw(_rarely):
        options["gradient_accumulation_steps"] = draw(st.sampled_from([2, 3]))
    if not flavours.LEGACY and draw(_rarely):
        options["loss_scale_factor"] = draw(st.sampled_from([4.0, 0.5]))
    if draw(_rarely):
        options["use_locking"] = False
    return options


def _gradient(draw, shape, kind, count, positive):
    special = None
    if draw(_rarely) and not positive:
        special = draw(st.sampled_from([0.0, math.inf, math.nan, -math.inf]))
    seed = draw(st.integers(0, 9))
    if kind != "sparse":
        return Gradient(kind, seed, special=special)
    most = count if shape[0] else 0
    ids = st.lists(
        st.integers(0, max(shape[0] - 1, 0)), min_size=most, max_size=most
    ).map(tuple)
    index_dtype = "int32" if len(shape) % 2 else "int64"
    return Gradient(kind, seed, draw(ids), index_dtype, special)


@st.composite
def programs(draw, ways=("eager", "eager", "eager", "function", "function", "jit")):
    """Any `Program`; functions and compiled ones have steps of one kind."""
    options = _features(draw)
    shapes = tuple(draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3)))
    if {"use_ema", "averaging"} & options.keys():
        # Keras 3 cannot add averages without elements.
        shapes = tuple(shape if 0 not in shape else (2,) for shape in shapes)
    dtype = draw(st.sampled_from(cases.DTYPES))
    dtypes = tuple(
        draw(st.sampled_from(cases.DTYPES)) if draw(_rarely) else dtype for _ in shapes
    )
    case = draw(st.sampled_from(cases.CASES))
    if case.name == "ScheduleFreeAdamW":  # whose decay is a part of its formula
        options.pop("weight_decay", None)
    way = draw(st.sampled_from(ways))
    number = draw(st.integers(1, STEPS))
    positive = "gradient_accumulation_steps" in options

    def kinds():
        choices = ("dense", "sparse", "none")
        return [
            draw(st.sampled_from(choices if shape else ("dense", "none")))
            for shape in shapes
        ]

    def counts():
        return [draw(st.integers(0, 5)) for _ in shapes]

    fixed = None if way == "eager" else (kinds(), counts())
    steps = tuple(
        tuple(
            _gradient(draw, shape, kind, count, positive)
            for shape, kind, count in zip(
                shapes, *(fixed or (kinds(), counts())), strict=True
            )
        )
        for _ in range(number)
    )
    rates = [rate for rate in RATES if rate or case.name != "Ftrl"]
    rates = tuple(draw(st.sampled_from(rates)) for _ in steps)
    # Not "exact": rows that a step names would have to be read before.
    modes = [
        "lazy",
        "dense",
        *(["eventual"] if case.is_exact else []),
    ]
    return Program(
        case=case,
        mode=draw(st.sampled_from(modes)),
        rates=() if draw(_rarely) else rates,
        options=options,
        # With averages of its own the oracle loses sight of whose a NaN is.
        bound=0.75 if draw(_rarely) and "averaging" not in options else None,
        shapes=shapes,
        dtypes=dtypes,
        positive=positive,
        way=way,
        static=draw(_flag),
        steps=steps,
        wrong=_wrong(draw, steps, shapes, way),
    )


def _wrong(draw, steps, shapes, way):
    if not draw(_rarely):
        return None
    i = draw(st.integers(0, len(steps) - 1))
    j = draw(st.integers(0, len(shapes) - 1))
    names = [
        name
        for name in fuzz_programs.WRONG
        if fuzz_programs.can_be(name, steps[i][j], shapes[j])
        # TensorFlow ends the process that gives text to a compiled function.
        and not (way == "jit" and name == "text")
    ]
    return (draw(st.sampled_from(names)), i, j) if names else None


# As a program that a user can run.


def _literal(array):
    text = str(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
    return text if array.size else f"np.zeros({array.shape})"


def _printed_gradient(program, i, j):
    values, ids = program.spoiled(i, j)
    if values is None:
        return "None"
    kind = "tf.string" if values.dtype == object else f'"{program.dtypes[j]}"'
    values = f"tf.constant({_literal(values)}, {kind})"
    if ids is None:
        return values
    ids = f'tf.constant({_literal(ids)}, "{ids.dtype}")'
    shape = f"tf.constant({list(program.shapes[j])}, tf.int64)"
    return f"tf.IndexedSlices({values}, {ids}, {shape})"


def printed(program):
    """The program as Python, without the oracle."""
    arguments = {**program.case.arguments, "sparse_update": program.mode}
    arguments |= program.options
    rate = "tf.keras.optimizers.schedules.ExponentialDecay(0.125, 2, 0.5)"
    if program.rates:
        rate = repr(program.rates[0])
    rest = "".join(f", {key}={value!r}" for key, value in arguments.items())
    lines = [
        f"# {fuzz_programs.FLAVOUR}",
        "import numpy as np",
        "import tensorflow as tf",
    ]
    lines += ["import tf_optim", "", "var_list = ["]
    bound = ""
    if program.bound:
        limits = f"-{program.bound}, {program.bound}"
        bound = f", constraint=lambda v: tf.clip_by_value(v, {limits})"
    for j, (shape, dtype) in enumerate(
        zip(program.shapes, program.dtypes, strict=True)
    ):
        value = _literal(program.values(100 + j, shape))
        lines.append(f'    tf.Variable({value}, dtype="{dtype}"{bound}),')
    lines += ["]", f"opt = tf_optim.{program.case.name}({rate}{rest})"]
    lines += ["opt.build(var_list)", ""]
    if program.way != "eager":
        jit = "jit_compile=True" if program.way == "jit" else ""
        static = "" if program.way == "jit" or program.static else "  # shapes unknown"
        lines.append(f"@tf.function({jit}){static}")
    lines += ["def step(*grads):", "    opt.apply_gradients(zip(grads, var_list))", ""]
    for i in range(len(program.steps)):
        if program.rates and (i and program.rates[i] != program.rates[i - 1]):
            lines.append(f"opt.learning_rate = {program.rates[i]}")
        gradients = [
            f"    {_printed_gradient(program, i, j)},"
            for j in range(len(program.shapes))
        ]
        what = f"  # step {i}"
        if program.wrong and program.wrong[1] == i:
            what += f": {program.wrong[0]} in gradient {program.wrong[2]}"
        lines += [f"step({what}", *gradients, ")"]
    lines += ["print(*(v.numpy() for v in [*var_list, *opt.variables]), sep='\\n')"]
    return "\n".join(lines)
