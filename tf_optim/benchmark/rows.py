"""Rows of the records, from the seconds of each round."""

import dataclasses
import statistics

from tf_optim.benchmark import check, rules, subjects
from tf_optim.benchmark.work import Work


@dataclasses.dataclass
class Round:
    """A round.

    Attributes:
      seconds: of a step, by subject.
      repeats: subjects that were timed for the sake of ratios: they have been timed
        in this placement before, as often as everybody.
    """

    seconds: dict
    repeats: frozenset = frozenset()


@dataclasses.dataclass
class Record:
    """What has been found of one work.

    Attributes:
      work: the `Work`.
      ready: subject -> dict with "bytes", "extra_mb", "note", "lazy".
      rounds: list of `Round`.
    """

    work: Work
    ready: dict = dataclasses.field(default_factory=dict)
    rounds: list = dataclasses.field(default_factory=list)


def _ratio(record, above, below):
    """Median of the ratios within the rounds that have both; None without any."""
    both = [r.seconds for r in record.rounds if {above, below} <= r.seconds.keys()]
    return statistics.median(r[above] / r[below] for r in both) if both else None


def _whole_table(record):
    """Subjects that move rows of which they have no gradient."""
    case = record.work.case
    if not (case.tables or case.kind == "fit") or not check.idles(record.work):
        return set()
    ready = record.ready.items()
    return {n for n, about in ready if n != subjects.LIMIT and not about["lazy"]}


def _fractions(record, whole_table):
    """`rules.limit_fractions` of a record."""
    limit = record.ready.get(subjects.LIMIT)
    found = {}
    for name, about in record.ready.items():
        fraction = _ratio(record, subjects.LIMIT, name)
        known = fraction is not None and about["bytes"]
        if known and name != subjects.LIMIT and name not in whole_table:
            # The limit may move other bytes, where slots are stored otherwise.
            found[name] = fraction * about["bytes"] / limit["bytes"]
    case = record.work.case
    held = limit["bytes"] * (case.batches if case.tables else 1) if limit else 0
    return rules.limit_fractions(found, held)


def make_rows(record):
    """The JSON records of one work, in the subjects' order.

    A time is a median of all rounds. A ratio is one of the ratios within a round,
    so that a machine that is slow for a while is slow for both; it is to the
    subject of ours that makes the same step in the same way.
    """
    made = []
    kind = record.work.case.kind
    whole_table = _whole_table(record)
    fractions, remark = _fractions(record, whole_table)
    for name in sorted(record.ready, key=subjects.names().index):
        about = record.ready[name]
        seconds = [
            each.seconds[name]
            for each in record.rounds
            if name in each.seconds and name not in each.repeats
        ]
        if not seconds:
            continue
        quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds
        median = statistics.median(seconds)
        moved = None if name in whole_table else about["bytes"]
        way = subjects.find(name, kind).way
        base = subjects.base(way, name in whole_table)
        ratio = base and _ratio(record, name, base)
        made.append(
            {
                "case": record.work.case.name,
                "optimizer": record.work.label,
                "subject": name,
                "way": way,
                "ms": 1e3 * median,
                "spread": [1e3 * quartiles[0], 1e3 * quartiles[-1]],
                "rounds": len(seconds),
                "bytes": moved,
                "gbps": moved / median / 1e9 if moved else None,
                "limit_fraction": fractions.get(name),
                "base": base if ratio else None,
                "ratio_to_ours": ratio,
                "extra_mb": about["extra_mb"],
                "note": remark if name == subjects.LIMIT else about["note"],
            }
        )
    return made
