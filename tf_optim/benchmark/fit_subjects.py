"""Subjects that are a whole `model.fit`: what a user sees of a faster step."""

import numpy as np
import tensorflow as tf

from tf_optim import reference
from tf_optim.benchmark import check, tf_subjects
from tf_optim.benchmark.subjects import Subject
from tf_optim.benchmark.work import LEARNING_RATE

_IDS_PER_EXAMPLE = 32
_BATCHES = 16  # of an epoch


def _model(inputs):
    """Embedding, mean, two dense layers; the same weights every time."""
    rows, dim = inputs.case.shapes[0]
    layers = tf.keras.layers
    ids = layers.Input((_IDS_PER_EXAMPLE,), dtype="int64")
    embedding = layers.Embedding(rows, dim, embeddings_initializer="zeros")
    hidden = layers.GlobalAveragePooling1D()(embedding(ids))
    hidden = layers.Dense(64, activation="relu")(hidden)
    model = tf.keras.Model(ids, layers.Dense(1)(hidden))
    rng = np.random.default_rng(inputs.seed)
    drawn = [0.1 * rng.standard_normal(v.shape) for v in model.trainable_variables[1:]]
    for variable, value in zip(model.trainable_variables[1:], drawn, strict=True):
        variable.assign(value)
    embedding.set_weights([inputs.initial(0)])
    return model


class FitSubject(Subject):
    """One call of `step` is `fit` over all batches of ids."""

    jit = False
    steps_per_call = _BATCHES

    def __init__(self, work, inputs):
        self._work = work
        ids = inputs.ids(0)[:_BATCHES].reshape(-1, _IDS_PER_EXAMPLE)
        labels = np.random.default_rng(inputs.seed).standard_normal((len(ids), 1))
        self._data = ids, labels.astype(np.float32)
        self._batch = len(ids) // _BATCHES
        self._model = _model(inputs)
        self._optimizer = self.make_optimizer(work)
        self._loss = tf.keras.losses.MeanSquaredError()
        self._model.compile(self._optimizer, self._loss, jit_compile=self.jit)

    def make_optimizer(self, work):
        raise NotImplementedError

    def _fit(self, examples):
        ids, labels = (array[:examples] for array in self._data)
        self._model.fit(
            ids, labels, batch_size=self._batch, epochs=1, shuffle=False, verbose=0
        )

    def step(self):
        self._fit(len(self._data[0]))

    def read(self, i, positions):
        return tf.gather(self._trained()[i], positions).numpy()

    def _trained(self):
        return self._model.trainable_variables

    def check(self):
        """The `check.Verdict` on the first step, which `fit` makes here.

        Of the embedding only rows that the batch names are compared.
        """
        ids, labels = (tf.constant(array[: self._batch]) for array in self._data)
        with tf.GradientTape() as tape:
            loss = self._loss(labels, self._model(ids, training=True))
        found = tape.gradient(loss, self._trained())
        rows, gradients, before = [], [], []
        for variable, gradient in zip(self._trained(), found, strict=True):
            value = variable.numpy()
            if isinstance(gradient, tf.IndexedSlices):
                named, gradient = reference.sum_duplicates(
                    gradient.values.numpy(), gradient.indices.numpy()
                )
                value, others = value[named], check.stand_in(value, named)
                if not self.lazy:
                    value = np.concatenate([value, others])
                    gradient = np.concatenate([gradient, np.zeros_like(others)])
            else:
                named = np.arange(variable.shape[0])
            rows.append(named)
            gradients.append(np.asarray(gradient))
            before.append(value.astype(np.float64))
        self._fit(self._batch)
        verdicts = []
        for i, (start, gradient) in enumerate(zip(before, gradients, strict=True)):
            slots = check.first_slots(self._work, start)
            wanted, _ = check.advance(self._work, start, slots, gradient, 0)
            actual = self.read(i, rows[i])
            start, wanted = start[: len(actual)], wanted[: len(actual)]
            verdicts.append(check.compare(actual, start, wanted, "float32", steps=1))
        return check.total(verdicts)


class Keras(FitSubject):
    def make_optimizer(self, work):
        cls = tf_subjects.optimizer_class(tf.keras.optimizers, work.optimizer)
        return cls(LEARNING_RATE, **work.options)


class KerasJit(Keras):
    jit = True


class KerasLegacy(FitSubject):
    def make_optimizer(self, work):
        return tf_subjects.legacy_class(work)(LEARNING_RATE, **work.options)


class Ours(FitSubject):
    ours = True
    lazy = True

    def make_optimizer(self, work):
        return tf_subjects.our_class(work)(LEARNING_RATE, **work.options)


class OursJit(Ours):
    jit = True

    def _fit(self, examples):
        with tf_subjects.missing_xla_kernels_are_unsupported():
            super()._fit(examples)


class OursDenseUpdate(Ours):
    """The same mathematics as stock: every row of the table decays."""

    lazy = False

    def make_optimizer(self, work):
        cls = tf_subjects.our_class(work)
        return cls(LEARNING_RATE, sparse_update="dense", **work.options)
