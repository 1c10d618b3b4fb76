"""Keras 3 with tables that are split over parameter servers.

The optimizer sees a table's shards, which are variables of their own. In a
checkpoint their slots stand as one slot of the whole table, as if it were not
split, so that it can be restored with another number of shards, or with none.
(tf_keras does the same.)
"""

import contextlib

import tensorflow as tf

from tf_optim.annotations import Mixin
from tf_optim.keras_private import raw


def table_of(variable):
    """The `ShardedVariable` that a variable is a shard of, or None."""
    container = getattr(raw(variable), "_sharded_container", None)
    return None if container is None else container()


@contextlib.contextmanager
def restored_as_joined(optimizer, variables):
    """While an optimizer is built: what a checkpoint has for it is kept back.

    One that was restored before would give each slot its value as it is made, by its
    place in a list. The places of joined lists are others.
    """
    if all(table_of(variable) is None for variable in variables):
        yield
        return
    lists = {k: v for k, v in _children(optimizer).items() if isinstance(v, list)}
    owners = {None: optimizer, **lists}
    waiting = {name: dict(of._deferred_dependencies) for name, of in owners.items()}
    for owner in owners.values():
        owner._deferred_dependencies.clear()
    try:
        yield
    except BaseException:
        for name, owner in owners.items():
            owner._deferred_dependencies.update(waiting[name])
        raise
    children = _children(optimizer)
    for name, places in waiting.items():
        owner = optimizer if name is None else children[name]
        owner._deferred_dependencies.update(places)
        within = children if name is None else _children(owner)
        for place in places:
            if (found := within.get(place)) is not None:
                owner._handle_deferred_dependencies(place, found)


def _children(trackable):
    return trackable._trackable_children()


def _has_shards(child):
    return isinstance(child, list) and any(
        isinstance(each, tf.Variable | tf.keras.Variable) and table_of(each) is not None
        for each in child
    )


class Slots:
    """The slots of shards, by table; not where Keras and checkpoints would look."""

    def __init__(self):
        self.of_table = {}  # (id of the table, slot's name) -> {shard: slot}
        self.whole = []  # the slots of whole tables, which their parts hold weakly
        self.lists = {}  # attribute -> (its length, the list with joined slots)

    def add(self, shard, name, slot):
        """Remembers which table a slot belongs to, if it is a shard's."""
        table = table_of(shard)
        if table is None:
            return
        slots = self.of_table.setdefault((id(table), name), {})
        slots[raw(shard)._unique_id] = raw(slot)
        if len(slots) == len(table.variables):
            parts = [slots[part._unique_id] for part in table.variables]
            self.whole.append(tf.__internal__.distribute.ShardedVariable(parts))

    def joined(self, children):
        """What a checkpoint sees of an optimizer: lists of slots of whole tables."""
        return {
            name: self._join(name, child) if _has_shards(child) else child
            for name, child in children.items()
        }

    def _join(self, attribute, variables):
        """The same list each time."""
        length, joined = self.lists.get(attribute, (None, None))
        if length != len(variables):
            wholes = [table_of(v) or v for v in variables if v is not None]
            each_once = {id(whole): whole for whole in wholes}
            joined = tf.__internal__.tracking.wrap(list(each_once.values()))
            self.lists[attribute] = len(variables), joined
        return joined


class Joined(Mixin):
    """Mixed into an optimizer: its checkpoints have the slots of whole tables."""

    @property
    def _slots_of_shards(self):
        return vars(self).setdefault("_slots_of_tables", Slots())

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        # A wrapper's lists are as those of the optimizers inside: with stock's apart.
        if all(isinstance(each, Joined) for each in self._inner_optimizers()):
            return self._slots_of_shards.joined(children)
        return children

    def _inner_optimizers(self):
        return ()
