"""The arguments that all optimizers share, in each one's signature and documentation.

A class writes its own arguments; what `annotations.SharedArguments` says is written
there, and shown everywhere.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from tf_optim import annotations as hints

Constructor = TypeVar("Constructor", bound=Callable[..., None])

_IN_ORDER = (
    *("weight_decay", "clipnorm", "clipvalue", "global_clipnorm"),
    *("sparse_update", "name"),
)
# Taken, and not shown.
_OLD = ("lr", "decay", "jit_compile")

_LEARNING_RATE = """\
learning_rate: a float, a `tf.keras.optimizers.schedules.LearningRateSchedule`, or a
    callable without arguments that returns a float. Default: {}."""

_WHOLE = """
    This one takes norms of whole variables: with `"lazy"` of the rows named;
    `"exact"` and `"eventual"` are refused."""

_VARIABLES = """\
Variables may be float16, bfloat16, float32 or float64. {slots} All variables of one
device and dtype are updated by one op, in {passes} over memory."""

_RAISES = """\
Raises:
    ValueError: for an argument out of its range."""


def handed_on(init: Constructor) -> Constructor:
    """Decorator of a constructor without a body: it hands on what it is given.

    To that of the next class, its defaults included; `spellings.accept` sees to it.
    """
    init.is_handed_on = True  # type: ignore[attr-defined]
    return init


def constructor_of(cls):
    """The class's constructor, for keyword arguments."""
    init = cls.__init__
    if not getattr(init, "is_handed_on", False):
        return init
    parameters = inspect.signature(init).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def hand_on(self, **given):
        super(cls, self).__init__(**{**defaults, **given})

    return hand_on


def complete(cls):
    """The signature of the class's constructor, shared arguments included.

    Adds them to the class's documentation, and remembers which are its own.
    """
    own = inspect.signature(cls.__init__)
    rest = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    signature = own.replace(parameters=_ordered(rest, _shared(cls, own.parameters)))
    cls._own_arguments = tuple(p.name for p in rest[1:] if p.name != "learning_rate")
    if cls.__doc__:  # python -OO has none
        cls.__doc__ = _documentation(cls, signature)
    return signature


def _shared(cls, own):
    """The `inspect.Parameter`s of what the class does not have of its own."""
    stock = _parameters_of_stock(cls)
    defaults = {name: each.default for name, each in stock.items()}
    defaults.update(dict.fromkeys(_IN_ORDER, None))
    defaults.update(sparse_update="lazy", use_locking=True, name=_name(cls))
    defaults.update(slot_dtype="float32", stochastic_rounding=None)
    defaults.update(exclude_from_weight_decay=None, learning_rate_multipliers=None)
    defaults.update(averaging=None, cautious=False)
    said = {}
    for each in (hints.SharedArguments, hints.ArgumentsButDecay):
        said |= each.__annotations__
    for name in [*_IN_ORDER, *said]:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        if name not in _IN_ORDER:
            kind = inspect.Parameter.KEYWORD_ONLY
        if name in said and name in defaults and name not in (*own, *_OLD):
            annotation = said.pop(name).__forward_arg__
            yield inspect.Parameter(
                name, kind, default=defaults[name], annotation=annotation
            )


def _parameters_of_stock(cls):
    """Of the first constructor behind ours that names its arguments."""
    for each in cls.__mro__:
        if "tf_optim" not in each.__module__ and "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters
            if "use_ema" in parameters:
                return parameters
    raise TypeError(f"{cls} must have a Keras optimizer among its bases.")


def _name(cls):
    """The stock class's default `name`, which differs between flavours."""
    stock = getattr(tf.keras.optimizers, cls.__name__, None)
    if stock is not None:
        return inspect.signature(stock.__init__).parameters["name"].default
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


def _ordered(own, shared):
    """Own arguments before the shared ones of their kind, and `**kwargs`."""
    kwargs = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    return sorted([*own, *shared, kwargs], key=lambda parameter: parameter.kind)


def _documentation(cls, signature):
    before, _, rest = inspect.cleandoc(cls.__doc__).partition("\n\nArgs:\n")
    own, _, after = rest.partition("\n\n")
    own = textwrap.dedent(own)
    rate = signature.parameters["learning_rate"].default
    shared = [
        text
        for name, text in _texts(cls)
        if name in signature.parameters and not _has(own, name)
    ]
    arguments = [_LEARNING_RATE.format(rate), *filter(None, [own]), *shared]
    arguments = textwrap.indent("\n".join(arguments), "    ")
    parts = [before, "Args:\n" + arguments, _variables(cls._spec), _RAISES, after]
    return "\n\n".join(parts)


def _has(texts, name):
    return re.search(rf"^{name}:", texts, re.MULTILINE) is not None


def _texts(cls):
    """The name of each shared argument, and what is said of it."""
    said = inspect.cleandoc(hints.SharedArguments.__doc__)
    said = textwrap.dedent(said.partition("Attributes:\n")[2])
    for text in re.split(r"\n(?=\w)", said):
        name = text.partition(":")[0]
        if name == "sparse_update" and cls._spec.needs_whole_table:
            text += _WHOLE
        yield name, text


def _variables(spec):
    said = getattr(spec, "said_of_variables", "")  # of one that is no rule
    if said:
        return textwrap.fill(said, 84)
    names = [
        f"`{slot.name}`" + (" (with its option)" if slot.optional else "")
        for slot in spec.slots
    ]
    listed = ", ".join(names)
    by_row = [f"`{slot.name}`" for slot in spec.slots if not slot.per_element]
    shape = "the variable's shape"
    if len(by_row) == len(spec.slots):
        shape = "one number per row"
    elif by_row:
        shape += f" ({', '.join(by_row)}: one number per row)"
    slots = (
        f"Slots ({listed}) have {shape}, and its dtype or float32 for 16-bit variables."
    )
    passes = "two passes" if spec.needs_whole_table else "one pass"
    return textwrap.fill(_VARIABLES.format(slots=slots, passes=passes), 84)
