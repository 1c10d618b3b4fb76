"""The rows of tests/cases.py for the optimizers that Keras has, and their like."""

import numpy as np

from tests.rows import Optimizer, Slot


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
LAYER_ERRORS = (({"weight_decay_rate": -0.1}, ">= 0"),)
BETAS = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}

KERAS_ROWS = (
    Optimizer(
        name="RMSprop",
        defaults={"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7},
        slots=(
            Slot("velocity"),
            Slot("momentum", share=1.0, option="momentum"),
            Slot("average_gradient", option="centered", share=0.5),
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
            Slot("momentum", share=1.0),
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
        slots=(Slot("momentum", share=1.0, option="momentum"),),
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
            Slot("momentum", share=1.0),
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
        slots=(Slot("momentum", share=1.0), Slot("norm")),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.9}},
        errors=BETA_ERRORS,
    ),
    Optimizer(
        name="Nadam",
        defaults=BETAS,
        slots=(Slot("momentum", share=1.0), Slot("velocity")),
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
        slots=(Slot("accumulator", initial=0.1), Slot("linear", share=1.0)),
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
        slots=(Slot("momentum", share=1.0),),
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
        defaults={**BETAS, "weight_decay_rate": 0.0},
        constants={"layer_adaptation": 1.0},
        slots=(Slot("momentum", share=1.0), Slot("velocity")),
        variants={"plain": {}, "tuned": {"beta_1": 0.5, "beta_2": 0.9}},
        errors=(*BETA_ERRORS, *LAYER_ERRORS),
        bounds={"layer_adaptation": ("in [0, 1]", 1.5)},
        scope="variable",
        learning_rate=0.05,
        in_stock=(True, False),
    ),
    Optimizer(
        name="ScheduleFreeAdamW",
        defaults={**BETAS, "epsilon": 1e-8, "warmup_steps": 0, "weight_decay": 0.0},
        op_names={"weight_decay": "weight_decay_rate"},
        slots=(Slot("momentum", share=1.0, initial=None), Slot("velocity")),
        variants={
            "plain": {},
            "tuned": {
                "beta_1": 0.5,
                "beta_2": 0.9,
                "warmup_steps": 20,
                "weight_decay": 0.02,
            },
        },
        errors=(
            ({"beta_1": 1.5}, "[0, 1]"),
            ({"beta_2": 1.0}, "[0, 1)"),
            ({"epsilon": -1.0}, ">= 0"),
            ({"warmup_steps": -1}, ">= 0"),
        ),
        bounds={"beta_1": ("in [0, 1]", 1.5)},
        in_stock=(False, False),  # Keras' own, under TensorFlow, takes another step
    ),
)
