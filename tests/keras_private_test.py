"""What we use of Keras that is not public is there; stock's step is a known one."""

import ast
import hashlib
import inspect
import pathlib
import re

import pytest
import tensorflow as tf

from tests import flavours, models
from tests.marks import both_flavours, keras_3_only
from tf_optim import extension, keras_private, prepared, specs


def stock_with_everything():
    options = {"use_ema": True, "weight_decay": 0.1}
    if not flavours.LEGACY:
        options["gradient_accumulation_steps"] = 2
    optimizer = tf.keras.optimizers.Adam(0.1, **options)
    optimizer.build(models.variables())
    return optimizer


MEMBERS = keras_private.TF_KERAS if flavours.LEGACY else keras_private.KERAS_3


@both_flavours
def test_private_members_are_there():
    optimizer = stock_with_everything()
    missing = {name for name in MEMBERS if not hasattr(optimizer, name)}
    if flavours.is_keras_before("3.5"):
        missing -= {"_iterations", "_unpickle_model"}
    assert not missing, {name: MEMBERS[name] for name in missing}


@both_flavours
def test_private_members_that_are_used_are_listed():
    """By their names, in all modules of the package but the benchmark."""
    theirs = {n for n in dir(stock_with_everything()) if re.match("_[^_]", n)}
    slots = {slot.attribute for spec in specs.SPECS.values() for slot in spec.slots}
    folder = pathlib.Path(keras_private.__file__).parent
    modules = [*folder.glob("*.py"), *folder.glob("optimizers/*.py")]
    nodes = [each for m in modules for each in ast.walk(ast.parse(m.read_text()))]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    every = keras_private.KERAS_3, keras_private.TF_KERAS, keras_private.VARIABLE
    listed = {name for each in every for name in each}
    assert (used & theirs) - slots <= listed


@both_flavours
@pytest.mark.skipif(not flavours.LEGACY, reason="of tf_keras")
def test_private_members_of_the_wrapper_are_there():
    wrapper = tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD())
    for name, reason in keras_private.TF_KERAS_WRAPPER.items():
        assert hasattr(wrapper, name), reason
    assert hasattr(wrapper._loss_scale, "update")


@both_flavours
def test_private_members_of_a_layer_are_there():
    layer = tf.keras.layers.Embedding(3, 2)
    layer.build(None)
    known = keras_private.KERAS_3_EMBEDDING
    if flavours.LEGACY:
        known = keras_private.TF_KERAS_EMBEDDING
    for name, reason in known.items():
        assert hasattr(layer, name), reason


def test_every_way_of_reading_or_setting_a_variable_is_known():
    """A prepared table overrides each; a later TensorFlow may have another one."""
    variable = tf.Variable([[1.0]])
    for name, reason in keras_private.VARIABLE.items():
        assert hasattr(variable, name), reason
    prepared.prepare(variable)
    touching = ("assign", "batch_scatter", "gather", "read", "scatter", "sparse_read")
    touching += ("value", "_restore", "_export_to")
    names = {name for name in dir(variable) if name.startswith(touching)}
    ours = {name for cls in type(variable).__mro__[:2] for name in vars(cls)}
    assert names - ours == set()


@both_flavours
def test_slots_are_where_the_specs_say():
    for name, row in specs.SPECS.items():
        stock = getattr(tf.keras.optimizers, name, None)
        if stock is None:
            continue
        options = {k: v for k, v in row.options[-1].items() if k != "cautious"}
        optimizer = stock(0.1, **options)
        optimizer.build(models.variables())
        missing = [
            s.attribute for s in row.slots if not hasattr(optimizer, s.attribute)
        ]
        optional = {"_velocity_hats", "momentums", "_momentums", "_average_gradients"}
        assert set(missing) <= optional, (name, missing)


@both_flavours
def test_what_is_refused_in_subclasses_is_stocks():
    """And nothing that no Keras has."""
    other = {
        "_deduplicate_sparse_grad",
        "_distributed_apply_gradients_fn",
        "_internal_apply_gradients",
        "_update_step",
        "_update_step_xla",
    }
    averages = {
        "_overwrite_model_variables_with_average_value",
        "_update_model_variables_moving_average",
    }
    names = set(extension._NOT_CALLED)
    expected = other | averages if flavours.LEGACY else names - other
    stock = [tf.keras.optimizers.Adam, getattr(tf.keras.optimizers, "Muon", object)]
    found = {n for n in names if any(hasattr(c, n) for c in stock)}
    of_muon = set(extension.OF_MUON)
    if flavours.is_keras_before("3.13"):
        found, expected = found - of_muon, expected - of_muon  # it lacks some
    assert found == expected


# The source of what `FusedOptimizer.apply` does instead, without white space.
KNOWN = {
    "3.3 and 3.4": "f416093f33c2",
    "3.5 and 3.6": "0be9ade3d047",
    "3.7 to 3.9": "7f5771004a37",
    "3.10 to 3.15": "26827c512e97",
}


@keras_3_only
@pytest.mark.skipif(flavours.LEGACY, reason="of Keras 3")
def test_stocks_step_is_one_that_we_know():
    from keras.src.optimizers import base_optimizer

    cls = base_optimizer.BaseOptimizer
    source = "".join(map(inspect.getsource, (cls.apply, cls._backend_apply_gradients)))
    digest = hashlib.sha256("".join(source.split()).encode()).hexdigest()[:12]
    assert digest in KNOWN.values(), (
        f"Keras {tf.keras.__version__} has another step than {', '.join(KNOWN)}. See "
        "what changed in `apply` and `_backend_apply_gradients`, take it over into "
        f"keras3.py and pipeline.py, and then add its digest, {digest}."
    )
