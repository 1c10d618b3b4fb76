"""Part a: handwritten digits, a network of two dense layers, and RMSprop."""

import time

import numpy as np
import tensorflow as tf

import tf_optim
from tf_optim.demo import report

_BATCH, _EPOCHS, _UNITS, _SEED = 128, 5, 512, 0


def load(mnist=None):
    """Returns ((x, y) for training, (x, y) for testing, name of the data).

    Args:
      mnist: An `.npz` file of the full MNIST with x_train, y_train, x_test, y_test as
        Keras distributes it; None for the small set that scikit-learn brings along.
    """
    if mnist is None:
        from sklearn import datasets, model_selection

        data = datasets.load_digits()
        x, test_x, y, test_y = model_selection.train_test_split(
            data.data / 16.0,
            data.target,
            test_size=0.2,
            random_state=_SEED,
            stratify=data.target,
        )
        name = "Handwritten digits"
    else:
        with np.load(mnist) as data:
            x, y, test_x, test_y = (
                data[key] for key in ("x_train", "y_train", "x_test", "y_test")
            )
        x, test_x = (a.reshape(len(a), -1) / 255.0 for a in (x, test_x))
        name = "MNIST"
    return (x.astype("float32"), y), (test_x.astype("float32"), test_y), name


class _Recorder(tf.keras.callbacks.Callback):
    """Writes the time and the loss of each batch into a curve."""

    def __init__(self, curve, progress):
        super().__init__()
        self._curve, self._progress = curve, progress
        self._traced = False

    def on_epoch_begin(self, epoch, logs=None):
        self._sum = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        # Keras reports the mean of the epoch so far; asking for it ends the step.
        total = float(logs["loss"]) * (batch + 1)
        if self._traced:
            self._curve.add(time.perf_counter() - self._began, total - self._sum)
        self._sum, self._traced = total, True
        self._progress.update()


def _model(features):
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input((features,)),
            tf.keras.layers.Dense(_UNITS, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax"),
        ]
    )


def run(progress_bar, stock_name, mnist=None, epochs=_EPOCHS) -> report.Part:
    """Trains with stock's RMSprop and with ours, from the same start, on the same data.

    Args:
      progress_bar: Makes a progress bar, as `tqdm.tqdm` does.
      stock_name: What to call stock Keras.
      mnist: See `load`.
      epochs: How often to go through the data.
    """
    (x, y), test, name = load(mnist)
    steps = len(x) // _BATCH * epochs
    contenders = [
        (report.STOCK, f"{stock_name} RMSprop", tf.keras.optimizers.RMSprop),
        (report.OURS, "tf_optim.RMSprop", tf_optim.RMSprop),
    ]
    tf.keras.utils.set_random_seed(_SEED)
    models = [_model(x.shape[1]) for _ in contenders]
    curves = [report.Curve(owner, label) for owner, label, _ in contenders]
    # An equal seed shuffles each epoch in the same way for both. All batches have equal
    # size, so that the loss of each follows from the means Keras reports.
    data = [
        tf.data.Dataset.from_tensor_slices((x, y))
        .shuffle(len(x), seed=_SEED)
        .batch(_BATCH, drop_remainder=True)
        for _ in contenders
    ]
    for model, (_, _, optimizer) in zip(models, contenders, strict=True):
        model.set_weights(models[0].get_weights())
        model.compile(
            optimizer(learning_rate=0.001, rho=0.9),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    with progress_bar(total=steps * len(models), desc="digits", unit="step") as bar:
        recorders = [_Recorder(curve, bar) for curve in curves]
        for epoch in range(epochs):  # in turns, so that both meet the same noise
            for model, batches, recorder in zip(models, data, recorders, strict=True):
                model.fit(
                    batches,
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    shuffle=False,
                    callbacks=[recorder],
                    verbose=0,
                )
    scores = [model.evaluate(*test, batch_size=_BATCH, verbose=0) for model in models]
    rows = [
        [
            curve.name,
            f"{accuracy:.4f}",
            f"{loss:.4f}",
            report.median_and_spread(curve.step_ms),
        ]
        for curve, (loss, accuracy) in zip(curves, scores, strict=True)
    ]
    return report.Part(
        title=f"{name}, dense network, RMSprop",
        header=[
            "optimizer",
            "test accuracy",
            "test loss",
            "ms per step (quartiles)",
        ],
        rows=rows,
        notes=[
            f"{len(x):,} training and {len(test[0]):,} test images, "
            f"{x.shape[1]}-{_UNITS}-10 units, batch {_BATCH}, {epochs} epochs = "
            f"{steps:,} steps",
            "through compile, fit and evaluate; same initial weights, same order of "
            "data. Times are medians",
            "(quartiles) without tracing, epochs in turns; most of such a small step "
            "is not the optimizer's.",
        ],
        curves=curves,
        loss="training loss (cross-entropy)",
        same_step=steps,
    )
