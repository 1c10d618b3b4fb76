"""What takes the place of the moving average: `averaging=` of every optimizer.

An average of this kind changes once in several steps, over whole variables, behind
the step. It lies where Keras keeps the averages of `use_ema`, so that checkpoints and
callbacks find it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_optim import checks, keras_private


def _whole(name, value, least):
    if not checks.is_whole(value, least):
        raise ValueError(
            f"`{name}` must be an integer >= {least}. Received: {name}={value!r}"
        )
    return int(value)


class Averaging:
    """How an optimizer averages its variables.

    Attributes:
        kind: "mean", of the variable at the steps that are due, which is what training
            gives in the end, or "slow" weights, which start at the variable and are
            given to it at these steps.
    """

    kind: str

    def is_due(self, steps: Any) -> Any:
        """Whether the step behind `steps` others ends with a new average."""
        raise NotImplementedError

    def kept(self, means: Any) -> Any:
        """How much of the average is kept then, a float64 scalar in [0, 1].

        Args:
            means: how often the average has been taken before.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Averaging:
        """Makes one from what `get_config` has returned."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={v!r}" for name, v in vars(self).items())
        return f"{type(self).__name__}({arguments})"


@tf.keras.utils.register_keras_serializable(package="tf_optim")
class Lookahead(Averaging):
    """Slow weights that follow the fast ones of any optimizer (Zhang et al., 2019).

    After every k = `sync_period` steps, with alpha = `slow_step_size`:

        slow = slow + alpha * (p - slow);  p = slow

    `slow` starts as the variable before the first step. In between p takes the steps
    of the optimizer. As TensorFlow Addons' wrapper of this name.

    Args:
        sync_period: an integer >= 1. Default: 6.
        slow_step_size: in [0, 1]. Default: 0.5.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> import tf_optim
    >>> opt = tf_optim.SGD(0.5, averaging=tf_optim.Lookahead(sync_period=2))
    >>> var = tf.Variable(0.0)
    >>> for _ in range(2):
    ...     opt.apply_gradients([(tf.constant(-1.0), var)])
    >>> print(var.numpy())  # two steps of 0.5 from 0, and half of the way back
    0.5
    """

    kind = "slow"

    def __init__(self, sync_period: int = 6, slow_step_size: float = 0.5) -> None:
        self.sync_period = _whole("sync_period", sync_period, 1)
        number = checks.static_value(slow_step_size)
        if number is None or not 0.0 <= number <= 1.0:
            raise ValueError(
                "`slow_step_size` must be in [0, 1]. Received: "
                f"slow_step_size={slow_step_size!r}"
            )
        self.slow_step_size = float(slow_step_size)

    def is_due(self, steps: Any) -> Any:
        """After every `sync_period` steps."""
        return tf.equal((steps + 1) % self.sync_period, 0)

    def kept(self, means: Any) -> Any:
        """1 - `slow_step_size`."""
        del means
        return tf.constant(1.0 - self.slow_step_size, tf.float64)


@tf.keras.utils.register_keras_serializable(package="tf_optim")
class StochasticWeightAveraging(Averaging):
    """The mean of the variables at regular steps (Izmailov et al., 2018).

    Behind step `start_averaging` (the first is 0) and every `average_period` steps
    from there on, n means before:

        average = (n * average + p) / (n + 1)

    The variables themselves go on as if there were none. At its end `model.fit` gives
    them their averages, if there are any yet, and so does
    `optimizer.finalize_variable_values(variables)`; Keras' SwapEMAWeights evaluates
    with them. Batch normalization has to see the training data again afterwards. As
    TensorFlow Addons' `SWA`.

    Args:
        start_averaging: an integer >= 0. Default: 0.
        average_period: an integer >= 1. Default: 10.

    Raises:
        ValueError: for an argument out of its range.
    """

    kind = "mean"

    def __init__(self, start_averaging: int = 0, average_period: int = 10) -> None:
        self.start_averaging = _whole("start_averaging", start_averaging, 0)
        self.average_period = _whole("average_period", average_period, 1)

    def is_due(self, steps: Any) -> Any:
        """Every `average_period` steps from `start_averaging` on."""
        since = steps - self.start_averaging
        return tf.logical_and(since >= 0, tf.equal(since % self.average_period, 0))

    def kept(self, means: Any) -> Any:
        """n / (n + 1), n means having been taken."""
        done = tf.cast(means, tf.float64)
        return done / (done + 1.0)


def checked(averaging: Any, arguments: dict[str, Any]) -> Averaging | None:
    """The argument `averaging` of an optimizer, or what a configuration has of it.

    Args:
        averaging: as given.
        arguments: the others.

    Raises:
        ValueError: for another object, or beside arguments that it replaces.
    """
    if averaging is None:
        return None
    if isinstance(averaging, dict):
        averaging = keras_private.made_from(averaging)
    if not isinstance(averaging, Averaging):
        raise ValueError(
            "`averaging` must be None, a tf_optim.Lookahead or a "
            f"tf_optim.StochasticWeightAveraging. Received: averaging={averaging!r}"
        )
    for name in ("ema_overwrite_frequency", "gradient_accumulation_steps"):
        if arguments.get(name):
            raise ValueError(
                f"`{name}` must be left out beside `averaging`. Received: "
                f"{name}={arguments[name]!r}"
            )
    return averaging
