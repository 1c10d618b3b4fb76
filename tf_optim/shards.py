"""Keras 3 with tables that are split over parameter servers.

The optimizer sees a table's shards, which are variables of their own. In a
checkpoint their slots stand as one slot of the whole table, as if it were not
split, so that it can be restored with another number of shards, or with none.
(tf_keras does the same.)
"""

import tensorflow as tf

from tf_optim import fused


def table_of(variable):
    """The `ShardedVariable` that a variable is a shard of, or None."""
    container = getattr(fused.raw(variable), "_sharded_container", None)
    return None if container is None else container()


class _Slots:
    """The slots of shards, by table; not where Keras and checkpoints would look."""

    def __init__(self):
        self.of_table = {}  # (id of the table, slot's name) -> {shard: slot}
        self.whole = []  # the slots of whole tables, which their parts hold weakly
        self.lists = {}  # attribute -> (its length, the list with joined slots)

    def add(self, shard, name, slot):
        table = table_of(shard)
        slots = self.of_table.setdefault((id(table), name), {})
        slots[fused.raw(shard)._unique_id] = fused.raw(slot)
        if len(slots) == len(table.variables):
            parts = [slots[part._unique_id] for part in table.variables]
            self.whole.append(tf.__internal__.distribute.ShardedVariable(parts))

    def join(self, attribute, variables):
        """The list that a checkpoint sees, the same one each time."""
        length, joined = self.lists.get(attribute, (None, None))
        if length != len(variables):
            wholes = [table_of(v) or v for v in variables if v is not None]
            each_once = {id(whole): whole for whole in wholes}
            joined = tf.__internal__.tracking.wrap(list(each_once.values()))
            self.lists[attribute] = len(variables), joined
        return joined


class Shards:
    """Mixed into the Keras 3 adapter."""

    _slots_of_shards = None

    def add_variable_from_reference(self, reference_variable, name=None, **kwargs):
        """Adds a slot, and remembers which table it belongs to."""
        slot = super().add_variable_from_reference(
            reference_variable, name=name, **kwargs
        )
        if table_of(reference_variable) is not None:
            if self._slots_of_shards is None:
                self._slots_of_shards = _Slots()
            self._slots_of_shards.add(reference_variable, name, slot)
        return slot

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        if self._slots_of_shards is None:
            return children
        return {
            name: self._slots_of_shards.join(name, child)
            if isinstance(child, list)
            else child
            for name, child in children.items()
        }
