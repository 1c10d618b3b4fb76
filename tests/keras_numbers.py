"""What Keras' ScheduleFreeAdamW makes of the gradients of tests.torch_numbers, under a
backend that has its formula: KERAS_BACKEND=jax python -m tests.keras_numbers

Needs Keras, JAX and NumPy alone, and writes tests/keras_numbers.json, which the tests
read where JAX is not installed. Under TensorFlow and torch the class reads z after it
has changed it.
"""

import json
from pathlib import Path

import numpy as np

from tests import torch_numbers

PATH = Path(__file__).with_suffix(".json")
LINE = "ScheduleFreeAdamW(0.01, warmup_steps=20)"


def of_keras():
    """The variables after all steps, by the Keras of this process."""
    import keras

    variables = [keras.Variable(value) for value in torch_numbers.start()]
    optimizer = eval(f"keras.optimizers.{LINE}", {"keras": keras})
    for grads in torch_numbers.gradients():
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads], variables)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def recorded():
    """The same as JAX's was written down."""
    said = json.loads(PATH.read_text())["results"]
    return [np.array(values, np.float32) for values in said]


if __name__ == "__main__":
    import keras

    backend = keras.backend.backend()
    assert backend in ("jax", "numpy"), backend
    results = {
        "keras": keras.__version__,
        "backend": backend,
        "results": [values.tolist() for values in of_keras()],
    }
    PATH.write_text(json.dumps(results) + "\n")
