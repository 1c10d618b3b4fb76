"""What each optimizer computes: float64 NumPy.

This is the oracle of the tests and of the benchmark's correctness check. The rules
are in `formulas.py` and `further_formulas.py`. Everything that optimizers have in
common (gradient scale, clipping, weight decay, sparse gradients) is around them, once.
"""

import functools

import numpy as np

from tf_optim.formulas import cautious
from tf_optim.further_formulas import RULES


def step(
    name,
    var,
    slots,
    grad,
    hyper,
    learning_rate,
    iterations,
    *,
    gradient_scale=1.0,
    clip_value=np.inf,
    weight_decay=0.0,
):
    """One dense step of the optimizer `name`.

    Args:
      name: a key of `RULES`.
      var: the variable, any float type.
      slots: dict of slot name to array. An optional slot that is absent means
        that its option (amsgrad, centered, momentum) is off.
      grad: the gradient, of the shape of `var`.
      hyper: dict of hyperparameter name to float, and whether steps are `cautious`.
      learning_rate: float.
      iterations: steps done before this one.
      gradient_scale: the gradient is multiplied by it first.
      clip_value: the scaled gradient is clipped to [-clip_value, clip_value].
      weight_decay: `var` loses learning_rate * weight_decay * var first.

    Returns:
      `(var, slots)` after the step, in float64; the arguments are unchanged.
    """
    # float() because np.float32 scalars would pull arithmetic down with them.
    learning_rate = float(learning_rate)
    hyper = {key: float(value) for key, value in hyper.items()}
    formula = RULES[name]
    if hyper.pop("cautious", False):
        formula = functools.partial(cautious, formula)
    p = np.asarray(var, np.float64)
    slots = {key: np.asarray(value, np.float64) for key, value in slots.items()}
    with np.errstate(all="ignore"):  # NaN and Inf go where arithmetic takes them
        g = np.asarray(grad, np.float64) * float(gradient_scale)
        g = np.clip(g, -float(clip_value), float(clip_value))
        if weight_decay:  # 0 * Inf is not "no decay"
            p = p - learning_rate * float(weight_decay) * p
        return formula(p, slots, g, hyper, learning_rate, int(iterations) + 1)


def sum_duplicates(values, indices):
    """Sums the rows of `values` that share an index.

    Returns:
      `(unique_ids, summed)`: the ids in ascending order and, in float64, the
      sum of the rows of each.
    """
    values = np.asarray(values, np.float64)
    unique_ids, position = np.unique(np.asarray(indices), return_inverse=True)
    summed = np.zeros((len(unique_ids),) + values.shape[1:])
    with np.errstate(all="ignore"):
        np.add.at(summed, position, values)
    return unique_ids, summed


def sparse_step(
    name,
    var,
    slots,
    grad,
    hyper,
    learning_rate,
    iterations,
    *,
    indices,
    mode="lazy",
    **common,
):
    """One step with the rows `grad` of the gradient at `indices`.

    Args:
      indices: row numbers of `var`, one for each row of `grad`; may repeat.
      mode: "lazy": only these rows of the variable and its slots change.
        "dense": what the equivalent dense gradient does.
      **common: `gradient_scale`, `clip_value`, `weight_decay` as in `step`.

    Returns:
      As `step`.
    """
    var = np.asarray(var, np.float64)
    slots = {key: np.asarray(value, np.float64) for key, value in slots.items()}
    rows, summed = sum_duplicates(grad, indices)
    if mode == "dense":
        whole = np.zeros(var.shape)
        whole[rows] = summed
        return step(name, var, slots, whole, hyper, learning_rate, iterations, **common)
    if mode != "lazy":
        raise ValueError(f"mode must be 'lazy' or 'dense'. Received: {mode!r}.")
    new_rows, new_slot_rows = step(
        name,
        var[rows],
        {key: value[rows] for key, value in slots.items()},
        summed,
        hyper,
        learning_rate,
        iterations,
        **common,
    )
    new_var = var.copy()
    new_var[rows] = new_rows
    new_slots = {}
    for key, value in slots.items():
        new_slots[key] = value.copy()
        new_slots[key][rows] = new_slot_rows[key]
    return new_var, new_slots
