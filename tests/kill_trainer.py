"""Training that can be killed at any moment, and goes on from its last save.

    python -m tests.kill_trainer FOLDER

Trains a small model in each of three ways of saving, and says on standard output
what it does: a line for each batch, each save, and each file that Python opens to
write, renames or removes while it saves.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys

import numpy as np
import tensorflow as tf

from tests import cases, flavours, models

BATCHES, BATCH, EVERY = 13, 4, 2  # it saves every so many batches, and not the last
ROWS, IDS = 50, 3


def data():
    """All batches, the same in each process."""
    rng = np.random.default_rng(8)
    ids = rng.integers(ROWS, size=(BATCHES, BATCH, IDS)).astype("int32")
    return ids, rng.normal(size=(BATCHES, BATCH, 1)).astype("float32")


def fresh():
    """A model with much state: averages and, in Keras 3, sums of gradients."""
    (case,) = (case for case in cases.RICHEST if case.name == "Adam")
    options = {"use_ema": True, "ema_overwrite_frequency": 5, "weight_decay": 0.01}
    if not flavours.LEGACY:
        options["gradient_accumulation_steps"] = 3
    model = models.compiled(
        models.recommender(rows=ROWS), models.ours(case, **options), jit_compile=False
    )
    model.optimizer.build(model.trainable_variables)
    return model


def done(model):
    """The number of batches that the model has seen."""
    optimizer = model.optimizer
    # Keras 3's `iterations` counts windows of accumulated gradients.
    return int(optimizer.iterations if flavours.LEGACY else optimizer.variables[0])


def _steps(model, save, say):
    """A loop of the program's own."""
    ids, targets = data()
    for i in range(done(model), BATCHES):
        model.train_on_batch(ids[i], targets[i])
        say(f"batch {i}")
        if (i + 1) % EVERY == 0:
            say("save")
            save()
            say("saved")
    return model


def in_fit(folder, say):
    """`BackupAndRestore`, which does not say at which batch an epoch goes on: the
    data ask the optimizer."""
    model, (ids, targets) = fresh(), data()

    def batches():
        for i in range(done(model), BATCHES):
            yield ids[i], targets[i]

    class Saying(tf.keras.callbacks.BackupAndRestore):
        def on_train_batch_end(self, batch, logs=None):
            say(f"batch {batch}")
            say("save")  # or not, in every other batch
            super().on_train_batch_end(batch, logs)
            say("saved")

    options = {} if flavours.LEGACY else {"double_checkpoint": True}
    backup = Saying(str(folder), save_freq=EVERY, delete_checkpoint=False, **options)
    dataset = tf.data.Dataset.from_generator(
        batches,
        output_signature=(
            tf.TensorSpec((BATCH, IDS), tf.int32),
            tf.TensorSpec((BATCH, 1), tf.float32),
        ),
    )
    # Which tf_keras needs to go on within an epoch.
    steps = {"steps_per_epoch": BATCHES} if flavours.LEGACY else {}
    try:
        model.fit(dataset, callbacks=[backup], verbose=0, **steps)
    except OSError:
        if flavours.LEGACY or done(model):
            raise
        # Killed in its first save: Keras 3 writes in place, and has no other yet.
        shutil.rmtree(folder)
        return in_fit(folder, say)
    except json.JSONDecodeError:
        if flavours.LEGACY:
            raise
        # Killed while Keras 3 wrote the epoch's number, in place too.
        number = pathlib.Path(folder, "training_metadata.json")
        before = pathlib.Path(f"{number}.bkp")
        if before.exists():
            shutil.copy(before, number)
        else:
            shutil.rmtree(folder)
        return in_fit(folder, say)
    return model


def with_manager(folder, say):
    """`tf.train.CheckpointManager`."""
    model = fresh()
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=2)
    manager.restore_or_initialize()
    return _steps(model, manager.save, say)


def in_keras_files(folder, say):
    """`.keras`, written beside the last one and then renamed."""
    folder.mkdir(exist_ok=True)
    path, new = folder / "model.keras", folder / "new.keras"
    model = tf.keras.models.load_model(path) if path.exists() else fresh()

    def save():
        model.save(new)
        os.replace(new, path)

    return _steps(model, save, say)


WAYS = {"fit": in_fit, "manager": with_manager, "keras": in_keras_files}


def digest(model):
    """Of all bits of the model's and the optimizer's variables."""
    whole = hashlib.sha256()
    for array in models.everything(model.variables, model.optimizer):
        whole.update(np.ascontiguousarray(array).tobytes())
    return f"{done(model)} batches, {whole.hexdigest()}"


def train(folder, say):
    """Trains in each way to its end, from where it stands; `say(way, what)`.

    Returns:
      way -> `digest`; kept in the folder, so that what has ended is not done again.
    """
    results = {}
    for way, run in WAYS.items():
        result = pathlib.Path(folder, f"{way}.result")
        if not result.exists():
            model = run(pathlib.Path(folder, way), lambda what, way=way: say(way, what))
            unfinished = result.with_suffix(".unfinished")
            unfinished.write_text(digest(model))
            os.replace(unfinished, result)
        results[way] = result.read_text()
    return results


def _watch_files(folder, say):
    """Says what Python's audit events tell of the files in a folder."""
    writes = os.O_WRONLY | os.O_RDWR
    current = ""

    def hook(event, arguments):
        if event not in ("open", "os.rename", "os.remove", "os.mkdir"):
            return
        path = arguments[0]
        if not isinstance(path, (str, os.PathLike)) or not str(path).startswith(folder):
            return
        if event != "open" or (arguments[2] or 0) & writes:
            say(current, event)

    def told(way, what):
        nonlocal current
        current = way
        say(way, what)

    sys.addaudithook(hook)
    return told


def main(folder):
    """Says `way what` for each thing that is done, and "end" at the end."""

    def say(way, what):
        os.write(1, f"{way} {what}\n".encode())

    train(folder, _watch_files(folder, say))
    os.write(1, b"end\n")


if __name__ == "__main__":
    main(sys.argv[1])
