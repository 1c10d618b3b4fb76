"""The formula of each optimizer in float64 NumPy, written from its paper.

A rule is one function

    rule(p, slots, g, hyper, learning_rate, t) -> (p, slots)

over whole arrays, where `t` counts steps from 1 and an optional slot that is absent
from `slots` switches its option off. `reference.py` is what they have in common. No
TensorFlow, and nothing of the C++: no blocks, no coefficients worked out in advance, no
storage types.
"""

import numpy as np

# The class's name -> its function. All are there once further_formulas.py is imported.
RULES = {}


def rule(*names):
    """Adds a function to `RULES`."""

    def add(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


@rule("RMSprop")
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


@rule("Adam", "AdamW")
def adam(p, slots, g, hyper, learning_rate, t):
    """Kingma and Ba, 2015, section 2, last paragraph; AMSGrad: Reddi, 2018."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    new = moments(slots, g, hyper)
    second = new["velocity"]
    if "velocity_hat" in slots:
        second = np.maximum(slots["velocity_hat"], second)
        new["velocity_hat"] = second
    alpha = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    return p - alpha * new["momentum"] / (np.sqrt(second) + hyper["epsilon"]), new


@rule("SGD")
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


@rule("Adagrad")
def adagrad(p, slots, g, hyper, learning_rate, t):
    """Duchi, Hazan and Singer, 2011, the diagonal form; epsilon under the root."""
    del t
    total = slots["accumulator"] + g**2
    return p - learning_rate * g / np.sqrt(total + hyper["epsilon"]), {
        "accumulator": total
    }


@rule("RowWiseAdagrad")
def row_wise_adagrad(p, slots, g, hyper, learning_rate, t):
    """Adagrad whose rows (first dimension) share an accumulator: Naumov, 2019."""
    del t
    others = tuple(range(1, g.ndim))
    mean = np.sum(g**2, axis=others) / max(1, np.prod(g.shape[1:]))
    total = slots["accumulator"] + mean
    root = np.sqrt(total + hyper["epsilon"])
    root = root.reshape(root.shape + (1,) * len(others))
    return p - learning_rate * g / root, {"accumulator": total}


@rule("RowWiseAdam")
def row_wise_adam(p, slots, g, hyper, learning_rate, t):
    """Adam whose rows (first dimension) share a velocity, as FBGEMM has it."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    others = tuple(range(1, g.ndim))
    mean = np.sum(g**2, axis=others) / max(1, np.prod(g.shape[1:]))
    momentum = b1 * slots["momentum"] + (1 - b1) * g
    # In this form one infinite gradient makes NaN of its row, as in the rule.
    velocity = slots["velocity"] + (1 - b2) * (mean - slots["velocity"])
    if np.prod(g.shape[1:]) == 0:  # rows without elements have no mean
        velocity = slots["velocity"]
    root = np.sqrt(velocity).reshape(velocity.shape + (1,) * len(others))
    alpha = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    new = {"momentum": momentum, "velocity": velocity}
    return p - alpha * momentum / (root + hyper["epsilon"]), new


@rule("Adadelta")
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


def moments(slots, g, hyper):
    """Adam's: Kingma and Ba, 2015, algorithm 1."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    return {
        "momentum": b1 * slots["momentum"] + (1 - b1) * g,
        "velocity": b2 * slots["velocity"] + (1 - b2) * g**2,
    }


@rule("Adamax")
def adamax(p, slots, g, hyper, learning_rate, t):
    """Kingma and Ba, 2015, algorithm 2, with Keras' epsilon."""
    b1 = hyper["beta_1"]
    new = {
        "momentum": b1 * slots["momentum"] + (1 - b1) * g,
        "norm": np.maximum(hyper["beta_2"] * slots["norm"], np.abs(g)),
    }
    step = new["momentum"] / (new["norm"] + hyper["epsilon"])
    return p - learning_rate / (1 - b1**t) * step, new


@rule("Nadam")
def nadam(p, slots, g, hyper, learning_rate, t):
    """Dozat, 2016, algorithm 2, with mu_t as in his section 3."""
    new = moments(slots, g, hyper)

    decay = hyper.get("schedule_decay", 1)

    def mu(i):
        return hyper["beta_1"] * (1 - 0.5 * 0.96 ** (decay * i))

    product = np.prod([mu(i) for i in range(1, t + 1)])
    ahead = mu(t + 1) * new["momentum"] / (1 - product * mu(t + 1))
    ahead = ahead + (1 - mu(t)) * g / (1 - product)
    second = new["velocity"] / (1 - hyper["beta_2"] ** t)
    return p - learning_rate * ahead / (np.sqrt(second) + hyper["epsilon"]), new


@rule("Ftrl")
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


@rule("Lion")
def lion(p, slots, g, hyper, learning_rate, t):
    """Chen et al., 2023, algorithm 2."""
    del t
    b1, b2, m = hyper["beta_1"], hyper["beta_2"], slots["momentum"]
    step = np.sign(b1 * m + (1 - b1) * g)
    return p - learning_rate * step, {"momentum": b2 * m + (1 - b2) * g}


def cautious(formula, p, slots, g, *arguments):
    """Liang et al., 2024, algorithm 1; the bound is of the authors' program."""
    moved, new = formula(np.zeros_like(p), slots, g, *arguments)
    agrees = -moved * np.sign(g) > 0
    return p + moved * (agrees / max(np.mean(agrees), 0.001)), new


@rule("Lamb")
def lamb(p, slots, g, hyper, learning_rate, t):
    """You et al., 2020, algorithm 2, one layer, phi(z) = z."""
    new = moments(slots, g, hyper)
    first = new["momentum"] / (1 - hyper["beta_1"] ** t)
    second = new["velocity"] / (1 - hyper["beta_2"] ** t)
    r = first / (np.sqrt(second) + hyper["epsilon"]) + hyper["weight_decay_rate"] * p
    norm_p, norm_r = np.sqrt(np.sum(p**2)), np.sqrt(np.sum(r**2))
    adapts = hyper.get("layer_adaptation", 1.0) and norm_p > 0 and norm_r > 0
    ratio = norm_p / norm_r if adapts else 1.0
    return p - learning_rate * ratio * r, new


@rule("LARS")
def lars(p, slots, g, hyper, learning_rate, t):
    """You, Gitman and Ginsburg, 2017, algorithm 1."""
    del t
    decay, mu = hyper["weight_decay_rate"], hyper["momentum"]
    norm_p, norm_g = np.sqrt(np.sum(p**2)), np.sqrt(np.sum(g**2))
    ratio = 1.0
    if hyper.get("layer_adaptation", 1.0) and norm_p > 0 and norm_g > 0:
        ratio = hyper["trust_coefficient"] * norm_p / (norm_g + decay * norm_p)
    step = learning_rate * ratio * (g + decay * p)
    m = mu * slots["momentum"] + step
    moved = mu * m + step if hyper.get("nesterov") else m
    return p - moved, {"momentum": m}
