"""What torch's optimizers make of the same gradients: python -m tests.torch_numbers

Needs torch and NumPy alone, and writes tests/torch_numbers.json, which the tests read
where torch is not installed.
"""

import json
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_suffix(".json")
STEPS = 100
SHAPES = ((7, 5), (5,))

# Name of a line -> (torch's class, its arguments, our class, its arguments). As in
# docs/migration.md.
PAIRS = {
    "SGD": ("SGD", {"lr": 0.05}, "SGD", {"learning_rate": 0.05}),
    "SGD, momentum": (
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        "SGD",
        {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    ),
    "RMSprop": (
        "RMSprop",
        {"lr": 0.01, "alpha": 0.99, "eps": 1e-16, "momentum": 0.5},
        "RMSprop",
        {"rho": 0.99, "epsilon": 1e-16, "momentum": 0.5},
    ),
    "Adagrad": (
        "Adagrad",
        {"lr": 0.01, "initial_accumulator_value": 0.2, "eps": 1e-10},
        "Adagrad",
        {"initial_accumulator_value": 0.2, "epsilon": 0.0},
    ),
    "Adadelta": (
        "Adadelta",
        {"lr": 1.0, "rho": 0.9, "eps": 1e-6},
        "Adadelta",
        {"learning_rate": 1.0, "rho": 0.9, "epsilon": 1e-6},
    ),
    "Adam": (
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-8, "amsgrad": False},
        "Adam",
        {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-8},
    ),
    "AdamW": (
        "AdamW",
        {"lr": 0.01, "weight_decay": 0.01},
        "AdamW",
        {"weight_decay": 0.01, "epsilon": 1e-8},
    ),
    "Adafactor": (
        "Adafactor",
        {"lr": 0.05, "d": 1.1},
        "Adafactor",
        {"learning_rate": 0.05, "clip_threshold": 1.1},
    ),
    "Adamax": ("Adamax", {"lr": 0.01}, "Adamax", {"epsilon": 1e-8}),
    "NAdam": (
        "NAdam",
        {"lr": 0.01, "momentum_decay": 0.004},
        "Nadam",
        {"schedule_decay": 0.004, "epsilon": 1e-8},
    ),
    "NAdam, decoupled": (
        "NAdam",
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
        "Nadam",
        {"schedule_decay": 0.004, "epsilon": 1e-8, "weight_decay": 0.1},
    ),
    "RAdam": ("RAdam", {"lr": 0.01}, "RectifiedAdam", {"epsilon": 1e-8}),
    "RAdam, decoupled": (
        "RAdam",
        {
            "lr": 0.01,
            "betas": (0.8, 0.9),
            "weight_decay": 0.1,
            "decoupled_weight_decay": True,
        },
        "RectifiedAdam",
        {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-8, "weight_decay": 0.1},
    ),
    "Rprop": (
        "Rprop",
        {"lr": 0.01, "etas": (0.6, 1.1), "step_sizes": (1e-3, 0.1)},
        "Rprop",
        {"eta_minus": 0.6, "eta_plus": 1.1, "min_step": 1e-3, "max_step": 0.1},
    ),
    "ASGD": (
        "ASGD",
        {"lr": 0.01, "lambd": 0.01, "alpha": 0.5, "t0": 20},
        "ASGD",
        {"lambd": 0.01, "alpha": 0.5, "t0": 20.0},
    ),
}


def start():
    """The variables."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def gradients():
    """For each step a gradient of each variable."""
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        yield [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def of_torch(name):
    """The variables after all steps of the line's optimizer, by torch itself."""
    import torch

    kind, arguments, *_ = PAIRS[name]
    variables = [torch.nn.Parameter(torch.tensor(value)) for value in start()]
    optimizer = getattr(torch.optim, kind)(variables, **arguments)
    for grads in gradients():
        for variable, grad in zip(variables, grads, strict=True):
            variable.grad = torch.tensor(grad)
        optimizer.step()
    return [variable.detach().numpy() for variable in variables]


def recorded(name):
    """The same as it was written down."""
    said = json.loads(PATH.read_text())["results"][name]
    return [np.array(values, np.float32) for values in said]


if __name__ == "__main__":
    import torch

    results = {name: [v.tolist() for v in of_torch(name)] for name in PAIRS}
    results = {"torch": torch.__version__, "results": results}
    PATH.write_text(json.dumps(results) + "\n")
