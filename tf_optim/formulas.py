"""The formula of each optimizer in float64 NumPy, written from its paper.

A rule is one function

    rule(p, slots, g, hyper, learning_rate, t) -> (p, slots)

over whole arrays, where `t` counts steps from 1 and an optional slot that is absent
from `slots` switches its option off. `reference.py` is what they have in common. No
TensorFlow, and nothing of the C++: no blocks, no coefficients worked out in advance, no
storage types.
"""

import numpy as np

# The class's name -> its function.
RULES = {}


def _rule(*names):
    def add(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


@_rule("RMSprop")
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


@_rule("Adam", "AdamW")
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


@_rule("SGD")
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


@_rule("Adagrad")
def adagrad(p, slots, g, hyper, learning_rate, t):
    """Duchi, Hazan and Singer, 2011, the diagonal form; epsilon under the root."""
    del t
    total = slots["accumulator"] + g**2
    return p - learning_rate * g / np.sqrt(total + hyper["epsilon"]), {
        "accumulator": total
    }


@_rule("RowWiseAdagrad")
def row_wise_adagrad(p, slots, g, hyper, learning_rate, t):
    """Adagrad whose rows (first dimension) share an accumulator: Naumov, 2019."""
    del t
    others = tuple(range(1, g.ndim))
    mean = np.sum(g**2, axis=others) / max(1, np.prod(g.shape[1:]))
    total = slots["accumulator"] + mean
    root = np.sqrt(total + hyper["epsilon"])
    root = root.reshape(root.shape + (1,) * len(others))
    return p - learning_rate * g / root, {"accumulator": total}


@_rule("RowWiseAdam")
def row_wise_adam(p, slots, g, hyper, learning_rate, t):
    """Adam whose rows (first dimension) share a velocity, as FBGEMM has it."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    others = tuple(range(1, g.ndim))
    mean = np.sum(g**2, axis=others) / max(1, np.prod(g.shape[1:]))
    momentum = b1 * slots["momentum"] + (1 - b1) * g
    velocity = b2 * slots["velocity"] + (1 - b2) * mean
    if np.prod(g.shape[1:]) == 0:  # rows without elements have no mean
        velocity = slots["velocity"]
    root = np.sqrt(velocity).reshape(velocity.shape + (1,) * len(others))
    alpha = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    new = {"momentum": momentum, "velocity": velocity}
    return p - alpha * momentum / (root + hyper["epsilon"]), new


@_rule("Adadelta")
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


@_rule("Adamax")
def adamax(p, slots, g, hyper, learning_rate, t):
    """Kingma and Ba, 2015, algorithm 2, with Keras' epsilon."""
    b1 = hyper["beta_1"]
    new = {
        "momentum": b1 * slots["momentum"] + (1 - b1) * g,
        "norm": np.maximum(hyper["beta_2"] * slots["norm"], np.abs(g)),
    }
    step = new["momentum"] / (new["norm"] + hyper["epsilon"])
    return p - learning_rate / (1 - b1**t) * step, new


@_rule("Nadam")
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


@_rule("Ftrl")
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


@_rule("Lion")
def lion(p, slots, g, hyper, learning_rate, t):
    """Chen et al., 2023, algorithm 2."""
    del t
    b1, b2, m = hyper["beta_1"], hyper["beta_2"], slots["momentum"]
    step = np.sign(b1 * m + (1 - b1) * g)
    return p - learning_rate * step, {"momentum": b2 * m + (1 - b2) * g}


def _cautious(rule, p, slots, g, *arguments):
    """Liang et al., 2024, algorithm 1; the bound is of the authors' program."""
    moved, new = rule(np.zeros_like(p), slots, g, *arguments)
    agrees = -moved * np.sign(g) > 0
    return p + moved * (agrees / max(np.mean(agrees), 0.001)), new


@_rule("CautiousAdam")
def cautious_adam(*arguments):
    """Where Adam's step agrees with the gradient."""
    return _cautious(adam, *arguments)


@_rule("CautiousLion")
def cautious_lion(*arguments):
    """Where Lion's step agrees with the gradient."""
    return _cautious(lion, *arguments)


@_rule("Lamb")
def lamb(p, slots, g, hyper, learning_rate, t):
    """You et al., 2020, algorithm 2, one layer, phi(z) = z."""
    new = _moments(slots, g, hyper)
    first = new["momentum"] / (1 - hyper["beta_1"] ** t)
    second = new["velocity"] / (1 - hyper["beta_2"] ** t)
    r = first / (np.sqrt(second) + hyper["epsilon"]) + hyper["weight_decay_rate"] * p
    norm_p, norm_r = np.sqrt(np.sum(p**2)), np.sqrt(np.sum(r**2))
    adapts = hyper.get("layer_adaptation", 1.0) and norm_p > 0 and norm_r > 0
    ratio = norm_p / norm_r if adapts else 1.0
    return p - learning_rate * ratio * r, new


@_rule("LARS")
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


@_rule("Yogi")
def yogi(p, slots, g, hyper, learning_rate, t):
    """Zaheer et al., 2018, algorithm 2, with Adam's correction as TensorFlow Addons
    has it."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    m = b1 * slots["momentum"] + (1 - b1) * g
    v = slots["velocity"]
    v = v - (1 - b2) * np.sign(v - g**2) * g**2
    alpha = learning_rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    step = alpha * m / (np.sqrt(v) + hyper["epsilon"])
    return p - step, {"momentum": m, "velocity": v}


def _rectification(hyper, t):
    """r_t of Liu et al., 2020, algorithm 2; None where the variance is not known."""
    b2 = hyper["beta_2"]
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    if length <= hyper["sma_threshold"]:
        return None
    known = (length - 4) * (length - 2) / length
    return np.sqrt(known / ((longest - 4) * (longest - 2) / longest))


def _rectified(p, m, second, hyper, learning_rate, t, rectify=True):
    r = _rectification(hyper, t) if rectify else 1.0
    mean = m / (1 - hyper["beta_1"] ** t)
    if r is None:
        return p - learning_rate * mean
    root = np.sqrt(second / (1 - hyper["beta_2"] ** t))
    return p - learning_rate * r * mean / (root + hyper["epsilon"])


@_rule("RectifiedAdam")
def rectified_adam(p, slots, g, hyper, learning_rate, t):
    """Liu et al., 2020, algorithm 2, with an epsilon; AMSGrad: Reddi, 2018."""
    new = _moments(slots, g, hyper)
    second = new["velocity"]
    if "velocity_hat" in slots:
        new["velocity_hat"] = second = np.maximum(slots["velocity_hat"], second)
    return _rectified(p, new["momentum"], second, hyper, learning_rate, t), new


@_rule("AdaBelief")
def ada_belief(p, slots, g, hyper, learning_rate, t):
    """Zhuang et al., 2020, algorithm 2."""
    b1, b2 = hyper["beta_1"], hyper["beta_2"]
    m = b1 * slots["momentum"] + (1 - b1) * g
    s = b2 * slots["variance"] + (1 - b2) * (g - m) ** 2 + hyper["epsilon"]
    new, second = {"momentum": m, "variance": s}, s
    if "variance_hat" in slots:
        new["variance_hat"] = second = np.maximum(slots["variance_hat"], s)
    rectify = hyper.get("rectify")
    return _rectified(p, m, second, hyper, learning_rate, t, rectify), new


@_rule("Adopt")
def adopt(p, slots, g, hyper, learning_rate, t):
    """Taniguchi et al., 2024, algorithm 2; c_t = (t - 1)^(1/4) of their code."""
    b1, b2, m, v = hyper["beta_1"], hyper["beta_2"], *slots.values()
    if t == 1:  # 0 g, so that NaN is not lost
        return p + 0 * g, {"momentum": m + 0 * g, "velocity": g**2}
    bound = (t - 1) ** hyper["clip_exponent"]
    normed = g / np.maximum(np.sqrt(v), hyper["epsilon"])
    m = b1 * m + (1 - b1) * np.clip(normed, -bound, bound)
    return p - learning_rate * m, {
        "momentum": m,
        "velocity": b2 * v + (1 - b2) * g**2,
    }


@_rule("Adan")
def adan(p, slots, g, hyper, learning_rate, t):
    """Xie et al., 2022, algorithm 1, with betas as those of Adam."""
    b1, b2, b3 = hyper["beta_1"], hyper["beta_2"], hyper["beta_3"]
    change = g - (g if t == 1 else slots["previous_gradient"])
    m = b1 * slots["momentum"] + (1 - b1) * g
    d = b2 * slots["difference"] + (1 - b2) * change
    n = b3 * slots["velocity"] + (1 - b3) * (g + b2 * change) ** 2
    eta = learning_rate / (np.sqrt(n / (1 - b3**t)) + hyper["epsilon"])
    step = eta * (m / (1 - b1**t) + b2 * d / (1 - b2**t))
    return p - step, {
        "momentum": m,
        "difference": d,
        "velocity": n,
        "previous_gradient": g,
    }


@_rule("AdEMAMix")
def ademamix(p, slots, g, hyper, learning_rate, t):
    """Pagliardini et al., 2024, algorithm 1 and the schedules of its section 3."""
    new = _moments(slots, g, hyper)
    b3, alpha, steps = hyper["beta_3"], hyper["alpha"], hyper.get("warmup_steps")
    if steps:
        alpha = min(t * alpha / steps, alpha)
        start, end, w = np.log(hyper["beta_1"]), np.log(b3), t / steps
        if w < 1:
            b3 = np.exp(start * end / ((1 - w) * end + w * start))
    new["slow_momentum"] = b3 * slots["slow_momentum"] + (1 - b3) * g
    mean = new["momentum"] / (1 - hyper["beta_1"] ** t)
    root = np.sqrt(new["velocity"] / (1 - hyper["beta_2"] ** t))
    mixed = mean + alpha * new["slow_momentum"]
    return p - learning_rate * mixed / (root + hyper["epsilon"]), new


@_rule("ProximalAdagrad")
def proximal_adagrad(p, slots, g, hyper, learning_rate, t):
    """Duchi, Hazan and Singer, 2011, section 5.1, and l2 as TensorFlow has it."""
    del t
    total = slots["accumulator"] + g**2
    rate = learning_rate / np.sqrt(total)
    moved = p - rate * g
    shrunk = np.maximum(np.abs(moved) - rate * hyper["l1_regularization_strength"], 0)
    left = np.sign(moved) * shrunk / (1 + rate * hyper["l2_regularization_strength"])
    return left, {"accumulator": total}


@_rule("Rprop")
def rprop(p, slots, g, hyper, learning_rate, t):
    """Igel and Huesken, 2000, figure 3 (iRprop-); lengths in learning rates."""
    del t
    turn = slots["direction"] * np.sign(g)
    size = slots["step_size"]
    shortest, longest = hyper["min_step"], hyper["max_step"]
    if learning_rate:
        shortest, longest = shortest / learning_rate, longest / learning_rate
    longer = np.minimum(size * hyper["eta_plus"], longest)
    shorter = np.maximum(size * hyper["eta_minus"], shortest)
    size = np.where(turn > 0, longer, np.where(turn < 0, shorter, size))
    direction = np.where(turn < 0, 0.0, np.sign(g))
    step = learning_rate * size * direction
    return p - step, {"direction": direction, "step_size": size}


@_rule("ASGD")
def asgd(p, slots, g, hyper, learning_rate, t):
    """Xu, 2011, equations 4 to 6, with torch's count of steps."""
    decay = hyper["lambd"]
    eta = learning_rate / (1 + decay * learning_rate * (t - 1)) ** hyper["alpha"]
    p = (1 - decay * eta) * p - eta * g
    mean = slots["mean_var"]
    return p, {"mean_var": mean + (p - mean) / max(1.0, t - 1 - hyper["t0"])}


@_rule("COCOB")
def cocob(p, slots, g, hyper, learning_rate, t):
    """Orabona and Tommasi, 2017, algorithm 2; its g is the negative gradient."""
    del t
    largest = np.maximum(slots["largest"], np.abs(g))
    total = slots["total"] + np.abs(g)
    reward = np.maximum(slots["reward"] - g * slots["offset"], 0)
    theta = -(slots["gradient_sum"] + g)
    fraction = theta / (largest * np.maximum(total + largest, hyper["alpha"] * largest))
    offset = np.where(largest == 0, 0.0, fraction * (largest + reward))
    new = {
        "gradient_sum": -theta,
        "largest": largest,
        "total": total,
        "reward": reward,
        "offset": offset,
    }
    return p + learning_rate * (offset - slots["offset"]), new


@_rule("ScheduleFreeAdamW")
def schedule_free_adamw(p, slots, g, hyper, learning_rate, t):
    """Defazio et al., 2024, algorithm 1, all steps of one weight as in Keras."""
    b1, b2, z = hyper["beta_1"], hyper["beta_2"], slots["momentum"]
    v = b2 * slots["velocity"] + (1 - b2) * g**2
    rate = learning_rate
    if hyper["warmup_steps"]:
        rate = rate * min(1.0, t / hyper["warmup_steps"])
    x = (p - (1 - b1) * z) / b1
    z = z - rate * g / (np.sqrt(v / (1 - b2**t)) + hyper["epsilon"])
    x = (1 - 1 / t) * x + z / t
    return (1 - b1) * z + b1 * x, {"momentum": z, "velocity": v}
