"""THE table: optimizer x options x errors. Every parametrised test iterates it.

Adding an optimizer is one `Optimizer(...)` in `OPTIMIZERS` (and its formula in
tf_optim/further_formulas.py); no test changes.
"""

import numpy as np

from tests.keras_rows import BETA_ERRORS, BETAS, KERAS_ROWS, LAYER_ERRORS
from tests.rows import Case, Optimizer, Slot


def _ademamix_per_step(hyper, iterations):
    """The decay of the slow momentum and its share, after the paper's equation 9."""
    beta, share, steps = hyper["beta_3"], hyper["alpha"], hyper["warmup_steps"]
    if iterations + 1 < steps:
        way = (iterations + 1) / steps
        lives = [-1 / np.log(b) for b in (hyper["beta_1"], beta)]  # half-lives, scaled
        share, beta = way * share, np.exp(-1 / np.interp(way, [0, 1], lives))
    return {"slow_beta": beta, "slow_share": share}


# The arguments of the optimizers whose steps can be cautious.
_CAUTIOUS = {
    "RMSprop": {"momentum": 0.9},
    "Adam": {"amsgrad": True, "beta_1": 0.5, "beta_2": 0.95},
    "SGD": {"momentum": 0.7, "nesterov": True},
    "AdamW": {"weight_decay": 0.0},
    "Adamax": {},
    "Nadam": {},
    "Lion": {},
    "Yogi": {},
    "RectifiedAdam": {"beta_2": 0.9, "sma_threshold": 4.0},
    "AdaBelief": {"beta_2": 0.9},
    "Adopt": {"beta_1": 0.5, "beta_2": 0.9},
    "Adan": {},
    "AdEMAMix": {"beta_2": 0.9, "beta_3": 0.99, "warmup_steps": 30},
}

_ROWS = (
    *KERAS_ROWS,
    Optimizer(
        name="LARS",
        defaults={
            "momentum": 0.9,
            "trust_coefficient": 0.001,
            "nesterov": False,
            "weight_decay_rate": 0.0,
        },
        constants={"layer_adaptation": 1.0},
        slots=(Slot("momentum", share=1.0),),
        variants={
            "plain": {"trust_coefficient": 0.5},
            "nesterov": {
                "nesterov": True,
                "trust_coefficient": 0.3,
                "weight_decay_rate": 0.1,
            },
        },
        errors=(
            *LAYER_ERRORS,
            ({"momentum": 1.5}, "[0, 1]"),
            ({"trust_coefficient": -1.0}, ">= 0"),
        ),
        bounds={
            "momentum_rate": ("in [0, 1]", 1.5),
            "layer_adaptation": ("in [0, 1]", 1.5),
        },
        op_names={"momentum": "momentum_rate"},  # "momentum" is the slot
        flags=("nesterov",),
        scope="variable",
        in_stock=(False, False),
    ),
    Optimizer(
        name="RowWiseAdam",
        defaults=BETAS,
        slots=(Slot("momentum", share=1.0), Slot("velocity", per_row=True)),
        variants={
            "plain": {},
            "tuned": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
        },
        errors=BETA_ERRORS,
        scope="row",
        in_stock=(False, False),
    ),
    Optimizer(
        name="Yogi",
        defaults={**BETAS, "epsilon": 1e-3},
        slots=(Slot("momentum", share=1.0), Slot("velocity", initial=1e-6)),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.9}},
        errors=(*BETA_ERRORS, ({"initial_accumulator_value": -0.1}, ">= 0")),
        in_stock=(False, False),
    ),
    Optimizer(
        name="RectifiedAdam",
        defaults={**BETAS, "sma_threshold": 5.0},
        slots=(
            Slot("momentum", share=1.0),
            Slot("velocity"),
            Slot("velocity_hat", option="amsgrad"),
        ),
        variants={
            "plain": {},
            "early": {"beta_2": 0.9, "sma_threshold": 4.0},
            "amsgrad": {"amsgrad": True, "beta_1": 0.5, "beta_2": 0.95},
        },
        errors=(
            *BETA_ERRORS,
            ({"sma_threshold": 3.0}, ">= 4"),
            ({"total_steps": -1}, ">= 0"),
            ({"warmup_proportion": 1.5}, "[0, 1]"),
            ({"min_lr": -0.1}, ">= 0"),
        ),
        bounds={"sma_threshold": ("a finite number >= 4", 3.5)},
        in_stock=(False, False),
    ),
    Optimizer(
        name="AdaBelief",
        defaults={**BETAS, "epsilon": 1e-14, "rectify": True, "sma_threshold": 5.0},
        slots=(
            Slot("momentum", share=1.0),
            Slot("variance"),
            Slot("variance_hat", option="amsgrad"),
        ),
        variants={
            "plain": {"rectify": False},
            "rectified": {"beta_2": 0.9},
            "amsgrad": {"amsgrad": True, "beta_1": 0.5, "epsilon": 1e-3},
        },
        errors=(*BETA_ERRORS, ({"sma_threshold": 3.0}, ">= 4")),
        bounds={"sma_threshold": ("a finite number >= 4", 3.5)},
        learning_rate=0.06,
        flags=("rectify",),
        in_stock=(False, False),
    ),
    Optimizer(
        name="Adopt",
        defaults={**BETAS, "beta_2": 0.9999, "epsilon": 1e-6, "clip_exponent": 0.25},
        slots=(Slot("momentum", share=1.0), Slot("velocity")),
        variants={
            "plain": {},
            "tuned": {"beta_1": 0.5, "beta_2": 0.9, "clip_exponent": 2.0},
        },
        errors=(*BETA_ERRORS, ({"clip_exponent": -1.0}, ">= 0")),
        in_stock=(False, False),
    ),
    Optimizer(
        name="Adan",
        defaults={"beta_1": 0.98, "beta_2": 0.92, "beta_3": 0.99, "epsilon": 1e-8},
        slots=(
            Slot("momentum", share=1.0),
            Slot("difference", share=0.5),
            Slot("velocity"),
            Slot("previous_gradient", share=1.0),
        ),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.8, "beta_3": 0.9}},
        errors=(*BETA_ERRORS, ({"beta_3": 1.0}, "[0, 1)")),
        in_stock=(False, False),
    ),
    Optimizer(
        name="AdEMAMix",
        defaults={
            **BETAS,
            "beta_3": 0.9999,
            "alpha": 5.0,
            "epsilon": 1e-8,
            "warmup_steps": 0,
        },
        slots=(
            Slot("momentum", share=1.0),
            Slot("velocity"),
            Slot("slow_momentum", share=0.5),
        ),
        variants={
            "plain": {},
            "growing": {"beta_2": 0.9, "beta_3": 0.99, "warmup_steps": 30},
        },
        errors=(
            *BETA_ERRORS,
            ({"beta_3": 1.0}, "[0, 1)"),
            ({"alpha": -1.0}, ">= 0"),
            ({"warmup_steps": -1}, ">= 0"),
        ),
        python_only=("beta_3", "alpha", "warmup_steps"),
        per_step=_ademamix_per_step,
        in_stock=(False, False),
    ),
    Optimizer(
        name="ProximalAdagrad",
        defaults={
            "l1_regularization_strength": 0.0,
            "l2_regularization_strength": 0.0,
        },
        slots=(Slot("accumulator", initial=0.1),),
        variants={
            "plain": {},
            "tuned": {
                "l1_regularization_strength": 0.3,
                "l2_regularization_strength": 0.5,
            },
        },
        errors=(
            ({"l1_regularization_strength": -1.0}, ">= 0"),
            ({"l2_regularization_strength": float("nan")}, ">= 0"),
            ({"initial_accumulator_value": -0.1}, ">= 0"),
        ),
        op_names={
            "l1_regularization_strength": "l1",
            "l2_regularization_strength": "l2",
        },
        learning_rate=0.1,
        in_stock=(False, False),
    ),
    Optimizer(
        name="Rprop",
        defaults={
            "eta_minus": 0.5,
            "eta_plus": 1.2,
            "min_step": 1e-6,
            "max_step": 50.0,
        },
        slots=(
            Slot("direction", share=1.0, is_sign=True),
            Slot("step_size", initial=1.0, follows_nan=False),
        ),
        variants={
            "plain": {},
            "narrow": {"eta_plus": 1.5, "min_step": 0.005, "max_step": 0.02},
        },
        errors=(
            ({"eta_minus": 1.0}, "[0, 1)"),
            ({"eta_plus": 0.5}, ">= 1"),
            ({"min_step": -1.0}, ">= 0"),
            ({"max_step": float("inf")}, ">= 0"),
        ),
        bounds={"eta_plus": ("a finite number >= 1", 0.5)},
        in_stock=(False, False),
    ),
    Optimizer(
        name="ASGD",
        defaults={"lambd": 1e-4, "alpha": 0.75, "t0": 1e6},
        slots=(Slot("mean_var", share=1.0, initial=None),),
        variants={"plain": {}, "tuned": {"lambd": 0.1, "alpha": 0.5, "t0": 2.0}},
        errors=(
            ({"lambd": -1.0}, ">= 0"),
            ({"alpha": float("nan")}, ">= 0"),
            ({"t0": -1.0}, ">= 0"),
        ),
        in_stock=(False, False),
    ),
    Optimizer(
        name="COCOB",
        defaults={"alpha": 100.0},
        slots=(
            Slot("gradient_sum", share=1.0),
            Slot("largest"),
            Slot("total"),
            Slot("reward"),
            Slot("offset", share=1.0),
        ),
        variants={"plain": {}, "bold": {"alpha": 3.0}},
        errors=(({"alpha": 0.5}, ">= 1"), ({"alpha": float("nan")}, ">= 1")),
        bounds={"alpha": ("a finite number >= 1", 0.5)},
        learning_rate=1.0,
        in_stock=(False, False),
    ),
)

OPTIMIZERS = tuple(
    row.with_cautious_steps(**_CAUTIOUS[row.name]) if row.name in _CAUTIOUS else row
    for row in _ROWS
)

# Refused by every optimizer.
COMMON_ERRORS = (
    ({"sparse_update": "sloppy"}, "'lazy'"),
    ({"sparse_update": None}, "'lazy'"),
    ({"clipnorm": 0.0}, "> 0"),
    ({"clipnorm": float("nan")}, "> 0"),
    ({"clipvalue": -0.5}, "> 0"),
    ({"global_clipnorm": 0}, "> 0"),
    ({"global_clipnorm": float("inf")}, "a finite number > 0"),
    ({"weight_decay": -0.1}, ">= 0"),
    ({"ema_momentum": 1.5}, "[0, 1]"),
)


CASES = tuple(
    Case(optimizer, variant)
    for optimizer in OPTIMIZERS
    for variant in optimizer.variants
)

# One case per optimizer, all its options on but for cautious steps: for tests of what
# rules share. Of equally many slots the most arguments, and of these the last.
RICHEST = tuple(
    max(
        (c for c in reversed(CASES) if c.optimizer is optimizer and not c.is_cautious),
        key=lambda case: (len(case.slots), len(case.arguments)),
    )
    for optimizer in OPTIMIZERS
)

# One case per mechanism: the first of those that are alike in it.
CAUTIOUS_ADAM = next(c for c in CASES if c.name == "Adam" and c.is_cautious)
KINDS = (
    *tuple({c.optimizer.mechanism: c for c in reversed(RICHEST)}.values())[::-1],
    CAUTIOUS_ADAM,
)
A_FEW = RICHEST[:2]

# Those that stock has in one of the flavours; `models.stock` skips the other.
STOCK_CASES = tuple(
    case for case in CASES if any(case.optimizer.in_stock) and not case.is_cautious
)
STOCK_RICHEST = tuple(case for case in RICHEST if any(case.optimizer.in_stock))

DTYPES = ("float32", "float64", "float16", "bfloat16")
INDEX_DTYPES = ("int32", "int64")
