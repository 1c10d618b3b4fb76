"""What each optimizer computes: float64 NumPy, written from the papers.

This is the oracle of the tests and of the benchmark's correctness check. It
shares nothing with the C++: no blocks, no coefficients worked out in advance,
no storage types. A rule is one function

    rule(p, slots, g, hyper, learning_rate, t) -> (p, slots)

over whole arrays, where `t` counts steps from 1 and an optional slot that is
absent from `slots` switches its option off. Everything that optimizers have in
common (gradient scale, clipping, weight decay, sparse gradients) is around the
rules, once.
"""

import numpy as np


def rmsprop(p, slots, g, hyper, learning_rate, t):
    """Hinton, 2012, lecture 6; centered as in Graves, 2013, section 2.3."""
    del t
    rho = hyper["rho"]
    new = {"velocity": rho * slots["velocity"] + (1 - rho) * g**2}
    variance = new["velocity"]
    if "average_gradient" in slots:
        old = slots["average_gradient"]
        new["average_gradient"] = rho * old + (1 - rho) * g
        # The mean of squares less the square of the mean, after the step: as the
        # variance before it and a distance, which do not cancel (West, 1979).
        variance = rho * (slots["velocity"] - old**2) + rho * (1 - rho) * (g - old) ** 2
    update = learning_rate * g / np.sqrt(variance + hyper["epsilon"])
    if "momentum" in slots:
        update = hyper["momentum"] * slots["momentum"] + update
        new["momentum"] = update
    return p - update, new


def adam(p, slots, g, hyper, learning_rate, t):
    """Kingma and Ba, 2015, section 2, last paragraph; AMSGrad: Reddi, 2018."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    new = _moments(slots, g, hyper)
    second = new["velocity"]
    if "velocity_hat" in slots:
        second = np.maximum(slots["velocity_hat"], second)
        new["velocity_hat"] = second
    alpha = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    return p - alpha * new["momentum"] / (np.sqrt(second) + hyper["epsilon"]), new


def sgd(p, slots, g, hyper, learning_rate, t):
    """Momentum: Polyak, 1964; nesterov: Sutskever et al., 2013, equation 4, written
    for the point that is looked ahead to, as Keras keeps it."""
    del t
    if "momentum" not in slots:
        return p - learning_rate * g, {}
    mu = hyper["momentum"]
    velocity = mu * slots["momentum"] - learning_rate * g
    if hyper.get("nesterov"):
        return p + mu * velocity - learning_rate * g, {"momentum": velocity}
    return p + velocity, {"momentum": velocity}


def adagrad(p, slots, g, hyper, learning_rate, t):
    """Duchi, Hazan and Singer, 2011, the diagonal form; epsilon under the root."""
    del t
    total = slots["accumulator"] + g**2
    return p - learning_rate * g / np.sqrt(total + hyper["epsilon"]), {
        "accumulator": total
    }


def row_wise_adagrad(p, slots, g, hyper, learning_rate, t):
    """Adagrad whose rows (first dimension) share an accumulator: Naumov, 2019."""
    del t
    others = tuple(range(1, g.ndim))
    mean = np.sum(g**2, axis=others) / max(1, np.prod(g.shape[1:]))
    total = slots["accumulator"] + mean
    root = np.sqrt(total + hyper["epsilon"])
    root = root.reshape(root.shape + (1,) * len(others))
    return p - learning_rate * g / root, {"accumulator": total}


def row_wise_adam(p, slots, g, hyper, learning_rate, t):
    """Adam whose rows (first dimension) share a velocity, as FBGEMM has it."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    others = tuple(range(1, g.ndim))
    mean = np.sum(g**2, axis=others) / max(1, np.prod(g.shape[1:]))
    momentum = b1 * slots["momentum"] + (1 - b1) * g
    velocity = b2 * slots["velocity"] + (1 - b2) * mean
    root = np.sqrt(velocity).reshape(velocity.shape + (1,) * len(others))
    alpha = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    new = {"momentum": momentum, "velocity": velocity}
    return p - alpha * momentum / (root + hyper["epsilon"]), new


def adadelta(p, slots, g, hyper, learning_rate, t):
    """Zeiler, 2012, algorithm 1, its step times the learning rate."""
    del t
    rho, epsilon = hyper["rho"], hyper["epsilon"]
    grads = rho * slots["accumulated_grad"] + (1 - rho) * g**2
    old = slots["accumulated_delta_var"]
    delta = -np.sqrt(old + epsilon) / np.sqrt(grads + epsilon) * g
    new = {
        "accumulated_grad": grads,
        "accumulated_delta_var": rho * old + (1 - rho) * delta**2,
    }
    return p + learning_rate * delta, new


def _moments(slots, g, hyper):
    """Adam's: Kingma and Ba, 2015, algorithm 1."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    return {
        "momentum": b1 * slots["momentum"] + (1 - b1) * g,
        "velocity": b2 * slots["velocity"] + (1 - b2) * g**2,
    }


def adamax(p, slots, g, hyper, learning_rate, t):
    """Kingma and Ba, 2015, algorithm 2, with Keras' epsilon."""
    b1 = hyper["beta_1"]
    new = {
        "momentum": b1 * slots["momentum"] + (1 - b1) * g,
        "norm": np.maximum(hyper["beta_2"] * slots["norm"], np.abs(g)),
    }
    step = new["momentum"] / (new["norm"] + hyper["epsilon"])
    return p - learning_rate / (1 - b1**t) * step, new


def nadam(p, slots, g, hyper, learning_rate, t):
    """Dozat, 2016, algorithm 2, with mu_t as in his section 3."""
    new = _moments(slots, g, hyper)

    decay = hyper.get("schedule_decay", 1)

    def mu(i):
        return hyper["beta_1"] * (1 - 0.5 * 0.96 ** (decay * i))

    product = np.prod([mu(i) for i in range(1, t + 1)])
    ahead = mu(t + 1) * new["momentum"] / (1 - product * mu(t + 1))
    ahead = ahead + (1 - mu(t)) * g / (1 - product)
    second = new["velocity"] / (1 - hyper["beta_2"] ** t)
    return p - learning_rate * ahead / (np.sqrt(second) + hyper["epsilon"]), new


def ftrl(p, slots, g, hyper, learning_rate, t):
    """McMahan et al., 2013, algorithm 1, with alpha = learning_rate, TensorFlow's
    shrinkage, and Keras' share of beta."""
    del t
    q = -hyper["learning_rate_power"]
    l1 = hyper["l1_regularization_strength"]
    l2 = hyper["l2_regularization_strength"] + hyper["beta"] / (2 * learning_rate)
    n = slots["accumulator"]
    grown = n + g**2
    sigma = (grown**q - n**q) / learning_rate
    pull = 2 * hyper["l2_shrinkage_regularization_strength"] * p
    z = slots["linear"] + g + pull - sigma * p
    new_p = (np.clip(z, -l1, l1) - z) / (grown**q / learning_rate + 2 * l2)
    return new_p, {"accumulator": grown, "linear": z}


def lion(p, slots, g, hyper, learning_rate, t):
    """Chen et al., 2023, algorithm 2."""
    del t
    b1, b2, m = hyper["beta_1"], hyper["beta_2"], slots["momentum"]
    step = np.sign(b1 * m + (1 - b1) * g)
    return p - learning_rate * step, {"momentum": b2 * m + (1 - b2) * g}


def lamb(p, slots, g, hyper, learning_rate, t):
    """You et al., 2020, algorithm 2, one layer, phi(z) = z."""
    new = _moments(slots, g, hyper)
    first = new["momentum"] / (1 - hyper["beta_1"] ** t)
    second = new["velocity"] / (1 - hyper["beta_2"] ** t)
    r = first / (np.sqrt(second) + hyper["epsilon"])
    norm_p, norm_r = np.sqrt(np.sum(p**2)), np.sqrt(np.sum(r**2))
    ratio = norm_p / norm_r if norm_p > 0 and norm_r > 0 else 1.0
    return p - learning_rate * ratio * r, new


RULES = {
    "SGD": sgd,
    "RMSprop": rmsprop,
    "Adagrad": adagrad,
    "RowWiseAdagrad": row_wise_adagrad,
    "RowWiseAdam": row_wise_adam,
    "Adadelta": adadelta,
    "Adam": adam,
    "AdamW": adam,  # its decay is everybody's
    "Adamax": adamax,
    "Nadam": nadam,
    "Ftrl": ftrl,
    "Lion": lion,
    "Lamb": lamb,
}


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
      hyper: dict of hyperparameter name to float.
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
    p = np.asarray(var, np.float64)
    slots = {key: np.asarray(value, np.float64) for key, value in slots.items()}
    with np.errstate(all="ignore"):  # NaN and Inf go where arithmetic takes them
        g = np.asarray(grad, np.float64) * float(gradient_scale)
        g = np.clip(g, -float(clip_value), float(clip_value))
        if weight_decay:  # 0 * Inf is not "no decay"
            p = p - learning_rate * float(weight_decay) * p
        return RULES[name](p, slots, g, hyper, learning_rate, int(iterations) + 1)


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
