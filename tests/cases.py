"""THE table: optimizer x options x errors. Every parametrised test iterates it.

Adding an optimizer is one `Optimizer(...)` in `OPTIMIZERS` (and its formula in
tf_optim/reference.py); no test changes.
"""

import numpy as np

from tests.rows import Case, Optimizer, Slot


def _nadam_per_step(hyper, iterations):
    """Dozat's mu of the step and the next, and their product so far."""
    mu = [hyper["beta_1"] * (1 - 0.5 * 0.96**t) for t in range(1, iterations + 3)]
    product = 1.0
    for each in mu[:-1]:
        product *= each
    return {"mu": mu[-2], "mu_next": mu[-1], "mu_product": product}


def _ftrl_cancelling(hyper, learning_rate, inputs, results):
    """Two powers are subtracted, the accumulator's before and after."""
    power = -hyper["learning_rate_power"]
    root = results["slot accumulator"] ** power / learning_rate
    size = root * np.abs(inputs["var"])
    return {"slot linear": size, "var": size / root}


BETA_ERRORS = (
    ({"beta_1": 1.0}, "[0, 1)"),
    ({"beta_1": -0.1}, "[0, 1)"),
    ({"beta_2": 1.0}, "[0, 1)"),
    ({"beta_2": float("nan")}, "[0, 1)"),
    ({"epsilon": -1.0}, ">= 0"),
)
BETAS = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}

OPTIMIZERS = (
    Optimizer(
        name="RMSprop",
        defaults={"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7},
        slots=(
            Slot("velocity"),
            Slot("momentum", option="momentum"),
            Slot("average_gradient", option="centered"),
        ),
        variants={
            "plain": {},
            "tuned": {"rho": 0.61, "epsilon": 1e-3},
            "momentum": {"momentum": 0.9},
            "centered": {"centered": True, "epsilon": 1e-4},
            "both": {"rho": 0.8, "momentum": 0.5, "centered": True, "epsilon": 1e-3},
        },
        errors=(
            ({"rho": 1.0}, "[0, 1)"),
            ({"rho": -0.1}, "[0, 1)"),
            ({"rho": float("nan")}, "[0, 1)"),
            ({"momentum": -0.5}, "[0, 1"),
            ({"epsilon": -1e-7}, ">= 0"),
        ),
        op_names={"momentum": "momentum_rate"},  # "momentum" is the slot
    ),
    Optimizer(
        name="Adam",
        defaults=BETAS,
        slots=(
            Slot("momentum"),
            Slot("velocity"),
            Slot("velocity_hat", option="amsgrad"),
        ),
        variants={
            "plain": {},
            "tuned": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
            "amsgrad": {"amsgrad": True},
            "amsgrad-tuned": {"amsgrad": True, "beta_1": 0.0, "beta_2": 0.6},
        },
        errors=BETA_ERRORS,
    ),
    Optimizer(
        name="SGD",
        defaults={"momentum": 0.0, "nesterov": False},
        slots=(Slot("momentum", option="momentum"),),
        variants={
            "plain": {},
            "momentum": {"momentum": 0.9},
            "nesterov": {"momentum": 0.7, "nesterov": True},
        },
        errors=(({"momentum": float("nan")}, "[0, 1]"),),
        stock_errors=(({"momentum": -0.1}, "[0, 1]"), ({"momentum": 1.5}, "[0, 1]")),
        limits=({"momentum": 1.0},),
        op_names={"momentum": "momentum_rate"},  # "momentum" is the slot
        flags=("nesterov",),
        learning_rate=0.05,
    ),
    Optimizer(
        name="Adagrad",
        defaults={"epsilon": 1e-7},
        slots=(Slot("accumulator", initial=0.1),),
        variants={"plain": {}, "tuned": {"epsilon": 1e-3}},
        errors=(
            ({"epsilon": -1e-7}, ">= 0"),
            ({"initial_accumulator_value": -0.1}, ">= 0"),
        ),
        learning_rate=0.1,
    ),
    Optimizer(
        name="RowWiseAdagrad",
        defaults={"epsilon": 1e-7},
        slots=(Slot("accumulator", initial=0.1, per_row=True),),
        variants={"plain": {}, "tuned": {"epsilon": 1e-3}},
        errors=(
            ({"epsilon": -1e-7}, ">= 0"),
            ({"initial_accumulator_value": -0.1}, ">= 0"),
        ),
        learning_rate=0.1,
        scope="row",
        in_stock=(False, False),
    ),
    Optimizer(
        name="RowWiseAdam",
        defaults=BETAS,
        slots=(Slot("momentum"), Slot("velocity", per_row=True)),
        variants={
            "plain": {},
            "tuned": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
        },
        errors=BETA_ERRORS,
        scope="row",
        in_stock=(False, False),
    ),
    Optimizer(
        name="Adadelta",
        defaults={"rho": 0.95, "epsilon": 1e-7},
        slots=(Slot("accumulated_grad"), Slot("accumulated_delta_var")),
        variants={"plain": {}, "tuned": {"rho": 0.6, "epsilon": 1e-3}},
        errors=(
            ({"rho": 1.0}, "[0, 1)"),
            ({"rho": -0.1}, "[0, 1)"),
            ({"epsilon": -1e-7}, ">= 0"),
        ),
        learning_rate=3.0,  # a step is at first the root of epsilon times this
    ),
    Optimizer(
        name="AdamW",
        defaults=BETAS,
        slots=(
            Slot("momentum"),
            Slot("velocity"),
            Slot("velocity_hat", option="amsgrad"),
        ),
        variants={  # with its default it would need weight decay everywhere
            "plain": {"weight_decay": 0.0},
            "amsgrad": {"weight_decay": 0.0, "amsgrad": True},
        },
        errors=BETA_ERRORS,
        rule="Adam",
    ),
    Optimizer(
        name="Adamax",
        defaults=BETAS,
        slots=(Slot("momentum"), Slot("norm")),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.9}},
        errors=BETA_ERRORS,
    ),
    Optimizer(
        name="Nadam",
        defaults=BETAS,
        slots=(Slot("momentum"), Slot("velocity")),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.9}},
        errors=(*BETA_ERRORS, ({"schedule_decay": 0.0}, "> 0")),
        per_step=_nadam_per_step,
        stock_rtol=1e-6,  # 0.96 goes through float32 there
        wrong_in_graph=True,
    ),
    Optimizer(
        name="Ftrl",
        defaults={
            "learning_rate_power": -0.5,
            "l1_regularization_strength": 0.0,
            "l2_regularization_strength": 0.0,
            "l2_shrinkage_regularization_strength": 0.0,
            "beta": 0.0,
        },
        slots=(Slot("accumulator", initial=0.1), Slot("linear")),
        variants={
            "plain": {},
            "tuned": {
                "learning_rate_power": -0.7,
                "l1_regularization_strength": 0.02,
                "l2_regularization_strength": 0.1,
                "l2_shrinkage_regularization_strength": 0.05,
                "beta": 0.3,
            },
        },
        stock_errors=(
            ({"learning_rate_power": 0.5}, "negative or zero"),
            ({"initial_accumulator_value": -0.1}, "positive or zero"),
            ({"l1_regularization_strength": -1.0}, "positive or zero"),
        ),
        errors=(
            ({"l2_regularization_strength": float("nan")}, ">= 0"),
            ({"beta": -1.0}, ">= 0"),
        ),
        limits=({"learning_rate_power": 0.0},),
        op_names={
            "l1_regularization_strength": "l1",
            "l2_regularization_strength": "l2",
            "l2_shrinkage_regularization_strength": "l2_shrinkage",
        },
        cancelling=_ftrl_cancelling,
        learning_rate=0.5,
        parity=10,  # `linear` sums up what rounding leaves of large differences
    ),
    Optimizer(
        name="Lion",
        defaults={"beta_1": 0.9, "beta_2": 0.99},
        slots=(Slot("momentum"),),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.8}},
        stock_errors=(({"beta_1": 0.0}, "0, 1]"), ({"beta_1": 1.5}, "0, 1]")),
        errors=(
            ({"beta_2": 1.5}, "[0, 1]"),
            ({"beta_2": -0.1}, "[0, 1]"),
        ),
        limits=({"beta_1": 1.0}, {"beta_2": 1.0}, {"beta_2": 0.0}),
    ),
    Optimizer(
        name="Lamb",
        defaults=BETAS,
        slots=(Slot("momentum"), Slot("velocity")),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.9}},
        errors=BETA_ERRORS,
        scope="variable",
        learning_rate=0.05,
        in_stock=(True, False),
    ),
)

# Refused by every optimizer.
COMMON_ERRORS = (
    ({"sparse_update": "sloppy"}, "'lazy'"),
    ({"sparse_update": None}, "'lazy'"),
    ({"clipnorm": 0.0}, "> 0"),
    ({"clipnorm": float("nan")}, "> 0"),
    ({"clipvalue": -0.5}, "> 0"),
    ({"global_clipnorm": 0}, "> 0"),
    ({"weight_decay": -0.1}, ">= 0"),
    ({"ema_momentum": 1.5}, "[0, 1]"),
)


CASES = tuple(
    Case(optimizer, variant)
    for optimizer in OPTIMIZERS
    for variant in optimizer.variants
)

# One case per optimizer, all its options on: for tests of what rules share. Of
# equally many slots the most arguments, and of these the last.
RICHEST = tuple(
    max(
        (case for case in reversed(CASES) if case.optimizer is optimizer),
        key=lambda case: (len(case.slots), len(case.arguments)),
    )
    for optimizer in OPTIMIZERS
)

# One case per mechanism: the first of those that are alike in it.
KINDS = tuple({c.optimizer.mechanism: c for c in reversed(RICHEST)}.values())[::-1]
A_FEW = RICHEST[:2]

# Those that stock has in one of the flavours; `models.stock` skips the other.
STOCK_CASES = tuple(case for case in CASES if any(case.optimizer.in_stock))
STOCK_RICHEST = tuple(case for case in RICHEST if any(case.optimizer.in_stock))

DTYPES = ("float32", "float64", "float16", "bfloat16")
INDEX_DTYPES = ("int32", "int64")
