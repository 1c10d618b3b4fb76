"""A user's own variables as a case: from a model's file, or from a list of shapes.

A list of shapes is a text file with a variable in each line:

    SHAPE [DTYPE] [sparse N]

SHAPE is its dimensions with "x" between them. DTYPE is float32 (the default) or
bfloat16. "sparse N" says that it is a table, the gradient of which names N rows in
each step, as that of an embedding does. What follows "#" is a comment.

    30522x768 sparse 4096     # word embeddings, 32 sentences of 128 words
    768x3072
    3072
"""

import json
import math
import pathlib
import re
import zipfile

from tf_optim.benchmark.cases import Case

DTYPES = ("float32", "bfloat16")
_LINE = re.compile(
    r"(?P<shape>\d+(?:\s*x\s*\d+)*)(?:\s+(?P<dtype>[a-z]+[0-9]+))?"
    r"(?:\s+sparse\s+(?P<ids>\d+))?"
)


def _case(name, variables):
    """The case of `(shape, dtype, ids)` of each variable.

    Raises:
      ValueError: if there are none.
    """
    if not variables:
        raise ValueError(f"{name} must have at least one variable. Received: none.")
    shapes, dtypes, ids = map(tuple, zip(*variables, strict=True))
    numbers = sum(math.prod(shape) for shape in shapes)
    tables = sum(count > 0 for count in ids)
    title = f"{name}: {len(shapes)} variables, {numbers:,} numbers"
    if tables:
        title += f"; {tables} of them tables, {sum(ids):,} ids a step"
    return Case(
        name="own",
        title=title,
        kind="own",
        shapes=shapes,
        each_dtype=dtypes,
        each_ids=ids,
    )


def _variable(line, where):
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(
            f"{where}: expected SHAPE [DTYPE] [sparse N], as in 30522x768 float32 "
            f"sparse 4096. Received: {line}"
        )
    shape = tuple(int(n) for n in re.split(r"\s*x\s*", match["shape"]))
    dtype = match["dtype"] or DTYPES[0]
    ids = int(match["ids"] or 0)
    if 0 in shape:
        raise ValueError(
            f"{where}: dimensions must be at least 1. Received: {match['shape']}"
        )
    if dtype not in DTYPES:
        raise ValueError(
            f"{where}: dtype must be one of {', '.join(DTYPES)}. Received: {dtype}"
        )
    if match["ids"] is not None and ids < 1:
        raise ValueError(f"{where}: a table needs at least 1 id. Received: {ids}")
    if ids and len(shape) != 2:
        raise ValueError(
            f"{where}: a table must have 2 dimensions. Received: {match['shape']}"
        )
    return shape, dtype, ids


def from_shapes(path):
    """The case of a list of shapes.

    Raises:
      ValueError: for a line that does not say a variable, with its number.
      OSError: if the file cannot be read.
    """
    variables = []
    text = pathlib.Path(path).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if line:
            variables.append(_variable(line, f"{path}:{number}"))
    return _case(pathlib.Path(path).name, variables)


def _layers(layer):
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _layers(inner)


def _ids_of(layer, batch):
    """Ids that an embedding looks up in a step.

    Raises:
      ValueError: if the model does not say.
    """
    try:
        shape = tuple(layer.input.shape)[1:]
    except (AttributeError, ValueError):
        shape = (None,)
    if None in shape:
        raise ValueError(
            f"expected the number of ids per example in the input of embedding "
            f"{layer.name}. Received: shape {shape}. List the variables in a file "
            f"instead (--shapes)."
        )
    return batch * math.prod(shape)


def from_model(path, batch):
    """The case of the trainable variables of a model.

    Args:
      path: a file that `model.save` wrote, in the format of Keras 3.
      batch: examples of a step; an embedding's gradient names as many rows as it
        looks up for them.

    Raises:
      ValueError: if the file cannot be loaded, or does not say all.
    """
    import tensorflow as tf

    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} must be a .keras file, as model.save makes them. Received: "
            f"{'another file' if pathlib.Path(path).exists() else 'no such file'}."
        )
    try:
        model = tf.keras.models.load_model(path, compile=False)
    except (TypeError, ValueError, ImportError, AttributeError) as error:
        text = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be loaded without the program that made it. List the "
            f"variables in a file instead (--shapes). Keras says: {text}"
        ) from error
    ids = {}
    for layer in _layers(model):
        if isinstance(layer, tf.keras.layers.Embedding) and layer.trainable:
            ids[id(layer.trainable_variables[0])] = _ids_of(layer, batch)
    variables = []
    for variable in model.trainable_variables:
        dtype = tf.as_dtype(variable.dtype).name
        if dtype not in DTYPES:
            raise ValueError(
                f"{path}: variable {variable.name} must be of {' or '.join(DTYPES)}. "
                f"Received: {dtype}."
            )
        shape = tuple(int(n) for n in variable.shape) or (1,)
        variables.append((shape, dtype, ids.get(id(variable), 0)))
    tf.keras.backend.clear_session()
    return _case(pathlib.Path(path).name, variables)


def optimizer_of(path):
    """The class that a model was compiled with, by name; None if it does not say."""
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    optimizer = (config.get("compile_config") or {}).get("optimizer")
    if isinstance(optimizer, dict):
        return optimizer.get("class_name", "").split(">")[-1] or None
    return None
