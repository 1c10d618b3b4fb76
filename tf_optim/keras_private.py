"""The private members of Keras' and TensorFlow's that we use: here, and why.

What is public has no place here. tests/keras_private_test.py names the member that a
version lacks.
"""

import tensorflow as tf

# Of all that TensorFlow saves.
TRACKABLE = {
    "_trackable_children": "what a checkpoint and a SavedModel hold",
    "_add_trackable_child": "how a SavedModel gives a loaded object what it holds",
    "_deserialize_from_proto": "how a SavedModel makes an object of a class of ours",
    "_lookup_dependency": "how a checkpoint says that it is restoring",
    "_deferred_dependencies": "what a checkpoint has for slots that are not made yet",
    "_handle_deferred_dependencies": "restores these",
    "_no_dependency": "a list of variables that a checkpoint is not to hold twice",
}

# member of an optimizer -> why there is no way around it
BOTH = {
    "_iterations": "the variable that counts calls: `iterations` may be of windows",
    "_learning_rate": "a schedule or callable itself: `learning_rate` is its value",
    "_use_weight_decay": "what `exclude_from_weight_decay` has excluded",
    "_clip_gradients": "clips where a subclass has its own way, or each replica does",
    "_apply_weight_decay": "a subclass may have its own",
    "_model_variables_moving_average": "the averages of `use_ema`",
    "_distribution_strategy": "where slots are made, and averages swapped by callbacks",
    "_variables": "its variables as they are: `variables` brings rows up to date first",
    **TRACKABLE,
}
KERAS_3 = {
    **BOTH,
    "_trainable_variables": "what the optimizer was built with",
    "_get_variable_index": "which slots are a variable's",
    "_unpickle_model": "what pickle calls for an object of a stock class",
    "_accumulated_gradients": "the accumulators of gradient_accumulation_steps",
    "_overwrite_variables_directly_with_gradients": "the scales of float8 layers",
}
TF_KERAS = {
    **BOTH,
    "_index_dict": "which slots are a variable's",
    "_var_key": "which slots are a variable's",
    "_built": "the flag that stock's `build` reads",
    "_mesh": "of DTensor, whose variables begin with tensors and not with functions",
    "_compute_current_learning_rate": "a schedule's value is a variable that it sets",
    "_build_learning_rate": "makes that variable, in classes that Keras has not",
    "_serialize_hyperparameter": "a learning rate or schedule in `get_config`",
}

# of tf_keras' LossScaleOptimizer
TF_KERAS_WRAPPER = {"_loss_scale": "the scale, and when it changes"}

# of a built Embedding layer
KERAS_3_EMBEDDING = {
    "_flatten_layers": "of any layer: those inside of it, on every level",
    "_embeddings": "the table itself: `embeddings` may have LoRA's product added",
}
TF_KERAS_EMBEDDING = {
    "_flatten_layers": KERAS_3_EMBEDDING["_flatten_layers"],
    "_use_one_hot_matmul": "whether rows are read by a product of matrices",
}

# Of TensorFlow's variables; a prepared table overrides what reads and sets it.
VARIABLE = {
    "read_value_no_copy": "how a checkpoint reads a variable",
    "_restore_from_tensors": "how a checkpoint sets one",
    "_export_to_saved_model_graph": "what a saved function has in a history's place",
    "_shared_name": "a slot's name, which has that of the model's variable",
}


def is_keras_3():
    """True for Keras 3, False for tf_keras (`TF_USE_LEGACY_KERAS=1`)."""
    return hasattr(tf.keras, "ops")


def raw(variable):
    """The `tf.Variable` of a Keras variable."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def is_split(variable):
    """Whether it is of several variables, each with a part of its rows."""
    return isinstance(variable, tf.__internal__.distribute.ShardedVariable)


def made_from(config, custom_objects=None):
    """An object of what `serialize_keras_object` has made of one.

    Its class is that of its registered name: of an `.h5` file tf_keras takes a class
    of its own of the same name, or finds none.
    """
    made_by = tf.keras.utils.get_registered_object(
        config.get("registered_name"), custom_objects
    )
    if made_by is None:
        return tf.keras.utils.deserialize_keras_object(config, custom_objects)
    return made_by.from_config(config["config"])


def path_of(variable):
    """What patterns are looked for in: Keras 3's path ("dense/kernel"), or the name."""
    return getattr(variable, "path", None) or variable.name


def count(optimizer):
    """The variable that counts steps, or micro-steps where gradients accumulate."""
    is_older = not hasattr(optimizer, "_iterations")  # than Keras 3.5
    return raw(optimizer.iterations if is_older else optimizer._iterations)


def index_of(optimizer, variable):
    """Which of the variables that the optimizer was built with this one is.

    Raises:
        ValueError: (KeyError in tf_keras, as in stock) if it is none of them.
    """
    try:
        if is_keras_3():
            return optimizer._get_variable_index(variable)
        return optimizer._index_dict[optimizer._var_key(variable)]
    except (AttributeError, KeyError):
        if not hasattr(variable, "assign"):
            raise ValueError(
                f"Gradients must be of variables. Received: a gradient of {variable!r}."
            ) from None
        kind = ValueError if is_keras_3() else KeyError
        raise kind(
            f"Unknown variable: '{variable.name}'. The optimizer must be built with "
            "all variables that it is to update: call `build` with all of them, or "
            "make a new optimizer."
        ) from None


def slots_of(optimizer, variable):
    """The `tf.Variable`s that are its slots, in the spec's order; None where absent."""
    index = index_of(optimizer, variable)
    lists = (getattr(optimizer, s.attribute, ()) for s in optimizer._spec.slots)
    slots = (slots[index] if slots else None for slots in lists)
    return tuple(None if slot is None else raw(slot) for slot in slots)


def built_with(optimizer):
    """The variables that an optimizer of ours was built with, as they were given."""
    return optimizer._trainable_variables if is_keras_3() else optimizer._built_with


def averages_of(optimizer, variables):
    """Pairs of a variable and its average; those that have one."""
    # Not the attribute, whose reading brings all rows up to date.
    averages = vars(optimizer)["_model_variables_moving_average"]
    pairs = ((v, averages[index_of(optimizer, v)]) for v in variables)
    return [(raw(v), raw(average)) for v, average in pairs if average is not None]


def averaged_in_a_step(optimizer, variables):
    """Keras 3 averages all variables in each step, tf_keras those with a gradient."""
    return optimizer._trainable_variables if is_keras_3() else variables


def adopt_strategy(optimizer):
    """Slots are made under the strategy in force, not under the constructor's."""
    optimizer._distribution_strategy = tf.distribute.get_strategy()


def is_decayed(optimizer, variable):
    """Whether weight decay is for this variable, as far as stock knows."""
    return optimizer._use_weight_decay(variable)


def clipped(optimizer, grads):
    """Gradients as stock, or a subclass of a user's, clips them."""
    return optimizer._clip_gradients(grads)


def decay(optimizer, variables):
    """Weight decay as a subclass of a user's does it."""
    optimizer._apply_weight_decay(variables)


def is_layer(thing):
    """Whether it is a layer or a model."""
    return hasattr(thing, "_flatten_layers")


def layers_of(model):
    """All layers of a model, those inside of others too, and itself."""
    return list(model._flatten_layers())  # `model.layers` has the outermost alone


def table_of(layer):
    """What an Embedding layer reads rows of; None if it reads something else."""
    if is_keras_3():
        # Keras 3.3 has the mode in the policy alone.
        policy = getattr(layer, "dtype_policy", None)
        mode = getattr(policy, "quantization_mode", None)
        mode = getattr(layer, "quantization_mode", mode)
        special = layer.lora_enabled or mode
        return None if special else getattr(layer, "_embeddings", None)
    special = layer.sparse or layer._use_one_hot_matmul
    return None if special else getattr(layer, "embeddings", None)


def accumulator(optimizer, index):
    """The variable that adds up the gradients of a window; Keras 3 only."""
    accumulator = optimizer._accumulated_gradients[index]
    return None if accumulator is None else raw(accumulator)


def how_many_accumulators(optimizer):
    """As many as there are variables; Keras 3 only."""
    return len(optimizer._accumulated_gradients)


def overwrites(optimizer, variables):
    """Whether gradients are the values of some variables; Keras 3 only."""
    return any(getattr(each, "overwrite_with_gradient", False) for each in variables)


def without_overwritten(optimizer, pairs):
    """Sets the variables whose gradients are their values (scales of float8 layers).

    Returns the other pairs. Keras 3 only.
    """
    if not overwrites(optimizer, [variable for _, variable in pairs]):
        return pairs
    grads, variables = zip(*pairs, strict=True)
    rest = optimizer._overwrite_variables_directly_with_gradients(grads, variables)
    return list(zip(*rest, strict=True))


def update_loss_scale(optimizer, finite):
    """Halves, keeps or doubles the scale of tf_keras' LossScaleOptimizer."""
    # Its state looks for what is not finite in gradients: here in one number.
    number = tf.where(finite, tf.constant(0.0), tf.constant(float("nan")))
    optimizer._loss_scale.update([number])


def pickled_as(stock, ours):
    """What a stand-in needs to be pickled as an object of stock's class."""
    if not hasattr(stock, "_unpickle_model"):  # tf_keras
        return {}

    def __reduce__(self):
        # By a method of the class, which pickle looks up under its name.
        _, *rest = ours.__reduce__(self)
        return (stock._unpickle_model, *rest)

    return {"__reduce__": __reduce__}
