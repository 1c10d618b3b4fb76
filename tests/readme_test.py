"""README.md says what the committed measurements say."""

import json
import pathlib

from tf_optim.benchmark import markdown

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "benchmark.json"


def test_table_is_made_from_the_committed_records():
    record = json.loads(RECORDS.read_text())
    assert markdown.table(record) in (ROOT / "README.md").read_text()


def test_ours_was_checked_and_timed_in_every_record():
    record = json.loads(RECORDS.read_text())
    groups = {(row["case"], row["optimizer"]) for row in record["rows"]}
    ours = {
        (row["case"], row["optimizer"])
        for row in record["rows"]
        if row["subject"] == "ours"
    }
    assert groups == ours
