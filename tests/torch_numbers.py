"""What torch's optimizers make of the same gradients: python -m tests.torch_numbers

Needs torch and NumPy alone, and writes tests/torch_numbers.json, which the tests read
where torch is not installed.
"""

import inspect
import json
import re
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "migration.md"
STEPS = 100
SHAPES = ((7, 5), (5,))


def section():
    """What docs/migration.md says of torch."""
    return PAGE.read_text().partition("\n## From torch\n")[2].partition("\n## ")[0]


def lines():
    """torch's optimizer -> ours, as the section's first table has them."""
    return dict(re.findall(r"^\| `(\w+\([^`]*)` \| `([^`]+)` \|", section(), re.M))


def classes():
    """The names of torch's classes in that table."""
    return sorted({line.partition("(")[0] for line in lines()})


def start():
    """The variables."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def gradients():
    """For each step a gradient of each variable."""
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        yield [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def of_torch(line):
    """The variables after all steps of the line's optimizer, by torch itself."""
    import torch

    variables = [torch.nn.Parameter(torch.tensor(value)) for value in start()]
    kind, _, arguments = line.partition("(")
    names = {"optim": torch.optim, "variables": variables}
    optimizer = eval(f"optim.{kind}(variables, {arguments}", names)
    for grads in gradients():
        for variable, grad in zip(variables, grads, strict=True):
            variable.grad = torch.tensor(grad)
        optimizer.step()
    return [variable.detach().numpy() for variable in variables]


def arguments_of_torch():
    """Class -> the names of its arguments, by torch itself."""
    import torch

    signatures = {c: inspect.signature(getattr(torch.optim, c)) for c in classes()}
    return {c: list(s.parameters)[1:] for c, s in signatures.items()}


def recorded(name):
    """What was written down as "torch" (its version), "arguments" or "results"."""
    return json.loads(PATH.read_text())[name]


def recorded_of(line):
    """What `of_torch` gave."""
    return [np.array(values, np.float32) for values in recorded("results")[line]]


if __name__ == "__main__":
    import torch

    written = {
        "torch": torch.__version__,
        "arguments": arguments_of_torch(),
        "results": {line: [v.tolist() for v in of_torch(line)] for line in lines()},
    }
    PATH.write_text(json.dumps(written) + "\n")
