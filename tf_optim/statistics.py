"""The numbers of a step, for the asking: `optimizer.step_statistics = True`."""

import tensorflow as tf

_NUMBERS = {
    "gradient_norm": tf.float64,
    "update_norm": tf.float64,
    "non_finite": tf.int64,
    "rows_touched": tf.int64,
    "clipped": tf.float64,
}


class StepStatistics:
    """What the last step has seen of its gradients, and done: scalar variables.

    They come from the pass that clips by norm and looks at scaled gradients, and from
    the update itself; where there is no such pass they cost one read of the gradients.
    They are in no checkpoint.

    Attributes:
        gradient_norm: the root of the sum of all squares, before clipping (behind it
            where a subclass overrides `update_step`); the loss scale divided out,
            repeated ids summed first.
        update_norm: the root of the sum of the squares of all changes of variables,
            weight decay included; 0 for a step that was not taken, NaN on a GPU,
            under `jit_compile=True` and where a subclass overrides `update_step`. With
            sparse_update "lazy" and "exact", of the rows that gradients name. What a
            constraint does, or a subclass's own weight decay, is not in it.
        non_finite: how many elements of all gradients are infinite or NaN.
        rows_touched: how many different rows all sparse gradients name.
        clipped: the share of gradients that `clipnorm` or `global_clipnorm` has
            shortened; NaN with `clipvalue`, which would take a pass of its own.
    """

    def __init__(self):
        with tf.init_scope():
            for name, dtype in _NUMBERS.items():
                variable = tf.Variable(tf.zeros([], dtype), trainable=False, name=name)
                setattr(self, name, variable)

    def numbers(self):
        """A dict of name and Python number. Waits for the step, if need be."""
        return {name: getattr(self, name).numpy().item() for name in _NUMBERS}

    def variables(self):
        """By name: a saved function needs all of its variables."""
        return {f"step_{name}": getattr(self, name) for name in _NUMBERS}

    def see(self, norms):
        """Keeps what is known of a step's gradients."""
        self.gradient_norm.assign(tf.sqrt(tf.reduce_sum(norms.squares)))
        self.non_finite.assign(tf.reduce_sum(norms.non_finite))
        self.rows_touched.assign(tf.reduce_sum(norms.rows_touched))
        self.clipped.assign(0.0)
        self.update_norm.assign(0.0)

    def see_nothing(self):
        """Of a step that changes no variable."""
        for name, dtype in _NUMBERS.items():
            getattr(self, name).assign(tf.zeros([], dtype))

    def see_factors(self, factors, bound):
        """Keeps how many gradients are clipped: by factors, or by a bound of values."""
        if bound is not None:
            self.clipped.assign(float("nan"))
        elif factors is not None:
            shortened = tf.cast(tf.less(factors, 1.0), tf.float64)
            self.clipped.assign(tf.reduce_mean(shortened))

    def see_update(self, squares):
        """Keeps how far the step has gone.

        Args:
            squares: float64 vectors, one from each op; None where it is not known.
        """
        if squares is None:
            self.update_norm.assign(float("nan"))
        else:
            total = tf.add_n([tf.reduce_sum(each) for each in squares])
            self.update_norm.assign(tf.sqrt(total))
