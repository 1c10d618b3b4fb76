"""A callback that writes the numbers of steps where TensorBoard finds them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_optim import fused, keras_private, multi

# As `tf.summary.scalar` marks them, which needs TensorBoard itself to be installed.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR"
)


class StepStatisticsCallback(tf.keras.callbacks.Callback):
    """Writes `step_statistics` of a model's optimizer where TensorBoard finds them.

    Of a `MultiOptimizer` the names have the place of each of its `optimizers`:
    "step/optimizer_0/gradient_norm".

    Args:
        log_dir: the folder, as that of `tf.keras.callbacks.TensorBoard`.
        update_freq: after how many batches to write, or "epoch". Default: "epoch".
            A write waits for the batch to be done.

    Example:

    >>> import tempfile
    >>> import tf_optim
    >>> callback = tf_optim.StepStatisticsCallback(tempfile.mkdtemp())
    >>> model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    >>> model.compile(tf_optim.Adam(global_clipnorm=1.0), "mse")
    >>> _ = model.fit(tf.ones([8, 2]), tf.ones([8]), verbose=0, callbacks=[callback])
    >>> sorted(model.optimizer.step_statistics.numbers())
    ['clipped', 'gradient_norm', 'non_finite', 'rows_touched', 'update_norm']
    """

    def __init__(self, log_dir: Any, update_freq: int | str = "epoch") -> None:
        super().__init__()
        if update_freq != "epoch" and not (
            type(update_freq) is int and update_freq >= 1
        ):
            raise ValueError(
                '`update_freq` must be "epoch" or an integer >= 1. Received: '
                f"update_freq={update_freq!r}"
            )
        self.log_dir, self.update_freq = str(log_dir), update_freq
        self._optimizers: dict[str, Any] = {}
        self._writer: Any = None
        self._batches = 0

    def set_model(self, model: Any) -> None:
        """Switches the statistics on, before the step is traced."""
        super().set_model(model)
        optimizer = model.optimizer
        while hasattr(optimizer, "inner_optimizer"):
            optimizer = optimizer.inner_optimizer
        several = isinstance(optimizer, multi.MultiOptimizer)
        ours = optimizer.optimizers if several else [optimizer]
        for each in ours:
            if not isinstance(each, fused.Fused):
                raise ValueError(
                    "The model's optimizer must be one of tf_optim, a MultiOptimizer "
                    "of such, or a LossScaleOptimizer around one. Received: "
                    f"{each}"
                )
            if each.step_statistics is None:
                each.step_statistics = True
                model.train_function = None  # one that is traced keeps none
        self._optimizers = {
            f"optimizer_{i}/" if several else "": each for i, each in enumerate(ours)
        }

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the file."""
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Writes, if it is time."""
        self._batches += 1
        if isinstance(self.update_freq, int) and self._batches % self.update_freq == 0:
            self._write()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes, if it is time."""
        if self.update_freq == "epoch":
            self._write()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self):
        for prefix, optimizer in self._optimizers.items():
            step = tf.convert_to_tensor(keras_private.count(optimizer))
            numbers = optimizer.step_statistics.numbers()
            with self._writer.as_default(step=int(step)):
                for name, number in numbers.items():
                    value = tf.constant(number, tf.float32)
                    name = f"step/{prefix}{name}"
                    tf.summary.write(name, value, metadata=_SCALAR)
