"""Keras 3 with tables that are split over parameter servers.

The optimizer sees a table's shards, which are variables of their own. In a
checkpoint their slots stand as one slot of the whole table, as if it were not
split, so that it can be restored with another number of shards, or with none.
(tf_keras does the same.)
"""

import tensorflow as tf

from tf_optim.keras_private import raw


def table_of(variable):
    """The `ShardedVariable` that a variable is a shard of, or None."""
    container = getattr(raw(variable), "_sharded_container", None)
    return None if container is None else container()


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
        if not self.of_table:
            return children
        return {
            name: self._join(name, child) if isinstance(child, list) else child
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
