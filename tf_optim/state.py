"""The optimizer's state as users, callbacks and checkpoints see it: up to date.

Rows that wait for steps ("exact", lazy averages) are brought up to date before
anything reads a variable, and what is known of rows is forgotten when others write.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_optim import averages, exact, keras_private, methods, prepared


class State(methods.Methods):
    """Mixed into a stock optimizer class, under what makes its memories.

    Attributes:
        _kept_rows: the `kept.Memory` of accumulated gradients.
        _seen_by_averages: the `average_rows.Memory` of what the rows have seen.
        _tables: the `exact.Memory` of tables that have rows to catch up.
        _bundles: the `bundles.Bundles` that ops are given in place of handles.
        _step_statistics: the `statistics.StepStatistics`, if somebody asks for them.
    """

    _kept_rows: Any = None
    _seen_by_averages: Any = None
    _tables: Any = None
    _bundles: Any = None
    _step_statistics: Any = None

    @property
    def variables(self) -> list[Any]:
        """All variables of the optimizer, averages and slots up to date."""
        exact.catch_up_all(self)
        averages.bring_up_to_date(self)
        return super().variables

    @property
    def _model_variables_moving_average(self):
        # Of Keras, whose callbacks read it.
        exact.catch_up_all(self)
        averages.bring_up_to_date(self)
        try:
            return vars(self)["_model_variables_moving_average"]
        except KeyError:
            raise AttributeError("averages exist once built with `use_ema`") from None

    @_model_variables_moving_average.setter
    def _model_variables_moving_average(self, value):
        vars(self)["_model_variables_moving_average"] = value

    def catch_up(self, table: Any = None, ids: Any = None) -> None:
        """Brings idle rows up to date, where `sparse_update` is "exact" or "eventual".

        Reading a prepared table does it, and so does everything that saves. In a
        `tf.function` call this before the table is read by other means.

        Args:
            table: one of the optimizer's variables. Default: all tables.
            ids: integers of any shape, rows of `table`. Default: all rows.

        Raises:
            ValueError: for a table that the optimizer does not update; for ids that
                are not integers, or of a table that is split over parameter servers.
            tf.errors.InvalidArgumentError: for ids that no row has.
        """
        exact.catch_up(self, table, ids)

    def touched_rows(self, table: Any, since_step: Any) -> tf.Tensor:
        """The rows of a table that gradients have changed since a step, in order.

        What a system that learns online sends to its servers in place of the table.
        In "exact" mode momentum moves other rows too.

        Args:
            table: a table of which rows were updated, in "exact" or "eventual" mode.
            since_step: a value of `iterations`, not before the first of these steps.

        Returns:
            An int64 vector.

        Raises:
            ValueError: if no step has updated rows of the table alone.
            tf.errors.InvalidArgumentError: if the steps remembered begin later.
        """
        known = set(map(id, self._tables.tables))
        parts = prepared.parts_of(table) if prepared.is_table(table) else ()
        ours = [id(p) in known and prepared.history_of(p) is not None for p in parts]
        if not ours or not all(ours):
            name = getattr(table, "name", table)
            raise ValueError(
                "`table` must be one whose rows were updated with sparse_update "
                f"'exact' or 'eventual'. Received: '{name}', under "
                f"sparse_update={self.sparse_update!r}."
            )
        return prepared.touched_rows(table, since_step)

    def forget_touched_rows(self) -> None:
        """To be called where averages change other than by a step.

        Restoring, `set_weights` and loading do it. Who assigns to the averages of a
        table by hand, between two lazy steps, must.
        """
        if self._kept_rows is not None:  # not in the middle of the constructor
            self._kept_rows.forget()
            self._seen_by_averages.forget()

    def set_weights(self, weights: Iterable[Any]) -> None:
        """As `Methods.set_weights`."""
        super().set_weights(weights)
        self.forget_touched_rows()

    def load_own_variables(self, store: Any) -> None:
        """Sets the state from a weights file."""
        super().load_own_variables(store)
        self.forget_touched_rows()

    def _lookup_dependency(self, name, *args, **kwargs):
        # How tf.train.Checkpoint finds what it restores.
        self.forget_touched_rows()
        return super()._lookup_dependency(name, *args, **kwargs)

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        exact.catch_up_all(self)
        averages.bring_up_to_date(self)
        if save_type == "savedmodel":
            self._kept_rows.add()  # before one of the variables is read
        children = dict(super()._trackable_children(save_type, **kwargs))
        if save_type == "savedmodel":  # a saved function needs all of its variables
            children.update(self._kept_rows.variables())
            children.update(self._seen_by_averages.variables())
            built = keras_private.built_with(self) if self._is_built() else ()
            variables = [*built, *super().variables]
            children.update(self._bundles.children(variables))
            if self._step_statistics is not None:
                children.update(self._step_statistics.variables())
        return children
