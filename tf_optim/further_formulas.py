"""More formulas, as `formulas.py` says: of optimizers that most Keras do not have."""

import numpy as np

from tf_optim.formulas import RULES, moments, rule

__all__ = ["RULES"]


@rule("Yogi")
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


@rule("RectifiedAdam")
def rectified_adam(p, slots, g, hyper, learning_rate, t):
    """Liu et al., 2020, algorithm 2, with an epsilon; AMSGrad: Reddi, 2018."""
    new = moments(slots, g, hyper)
    second = new["velocity"]
    if "velocity_hat" in slots:
        new["velocity_hat"] = second = np.maximum(slots["velocity_hat"], second)
    return _rectified(p, new["momentum"], second, hyper, learning_rate, t), new


@rule("AdaBelief")
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


@rule("Adopt")
def adopt(p, slots, g, hyper, learning_rate, t):
    """Taniguchi et al., 2024, algorithm 2; c_t = (t - 1)^(1/4) of their code."""
    b1, b2, m, v = hyper["beta_1"], hyper["beta_2"], *slots.values()
    if t == 1:  # clipped to 0, but that NaN is not lost
        zero = np.clip(g, 0.0, 0.0)
        return p + zero, {"momentum": m + zero, "velocity": g**2}
    bound = (t - 1) ** hyper["clip_exponent"]
    normed = g / np.maximum(np.sqrt(v), hyper["epsilon"])
    m = b1 * m + (1 - b1) * np.clip(normed, -bound, bound)
    return p - learning_rate * m, {
        "momentum": m,
        "velocity": b2 * v + (1 - b2) * g**2,
    }


@rule("Adan")
def adan(p, slots, g, hyper, learning_rate, t):
    """Xie et al., 2022, algorithm 1, with betas as those of Adam."""
    b1, b2, b3 = hyper["beta_1"], hyper["beta_2"], hyper["beta_3"]
    change = np.zeros_like(g) if t == 1 else g - slots["previous_gradient"]
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


@rule("AdEMAMix")
def ademamix(p, slots, g, hyper, learning_rate, t):
    """Pagliardini et al., 2024, algorithm 1 and the schedules of its section 3."""
    new = moments(slots, g, hyper)
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


@rule("ProximalAdagrad")
def proximal_adagrad(p, slots, g, hyper, learning_rate, t):
    """Duchi, Hazan and Singer, 2011, section 5.1, and l2 as TensorFlow has it."""
    del t
    total = slots["accumulator"] + g**2
    rate = learning_rate / np.sqrt(total)
    moved = p - rate * g
    shrunk = np.maximum(np.abs(moved) - rate * hyper["l1_regularization_strength"], 0)
    left = np.sign(moved) * shrunk / (1 + rate * hyper["l2_regularization_strength"])
    return left, {"accumulator": total}


@rule("Rprop")
def rprop(p, slots, g, hyper, learning_rate, t):
    """Igel and Huesken, 2000, figure 3 (iRprop-); lengths in learning rates."""
    del t
    turn = slots["direction"] * np.sign(g)
    size = slots["step_size"]
    shortest, longest = 0.0, np.inf  # no length is known in rates of 0
    if learning_rate:
        shortest = hyper["min_step"] / learning_rate
        longest = hyper["max_step"] / learning_rate
    longer = np.minimum(size * hyper["eta_plus"], longest)
    shorter = np.maximum(size * hyper["eta_minus"], shortest)
    size = np.where(turn > 0, longer, np.where(turn < 0, shorter, size))
    direction = np.where(turn < 0, 0.0, np.sign(g))
    step = learning_rate * size * direction
    return p - step, {"direction": direction, "step_size": size}


@rule("ASGD")
def asgd(p, slots, g, hyper, learning_rate, t):
    """Xu, 2011, equations 4 to 6, with torch's count of steps."""
    decay = hyper["lambd"]
    eta = learning_rate / (1 + decay * learning_rate * (t - 1)) ** hyper["alpha"]
    p = (1 - decay * eta) * p - eta * g
    mean = slots["mean_var"]
    return p, {"mean_var": mean + (p - mean) / max(1.0, t - 1 - hyper["t0"])}


@rule("COCOB")
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


@rule("ScheduleFreeAdamW")
def schedule_free_adamw(p, slots, g, hyper, learning_rate, t):
    """Defazio et al., 2024, algorithm 1, all steps of one weight as in Keras."""
    b1, b2, z = hyper["beta_1"], hyper["beta_2"], slots["momentum"]
    v = b2 * slots["velocity"] + (1 - b2) * g**2
    rate = learning_rate
    if hyper["warmup_steps"]:
        rate = rate * min(1.0, t / hyper["warmup_steps"])
    x = (p - (1 - b1) * z) / b1
    z = z - rate * g / (np.sqrt(v / (1 - b2**t)) + hyper["epsilon"])
    z = z - rate * hyper.get("weight_decay", 0.0) * p
    x = (1 - 1 / t) * x + z / t
    return (1 - b1) * z + b1 * x, {"momentum": z, "velocity": v}
