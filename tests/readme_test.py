"""The tables of README.md and docs/performance.md are of the committed records."""

import json
import pathlib
import re

import pytest

from tf_optim.benchmark import markdown, plot

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "benchmark.json"


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORDS.read_text())


def test_long_tables_are_made_from_the_committed_records(record):
    page = (ROOT / "docs" / "performance.md").read_text()
    tables = markdown.tables(record)
    assert len(tables) >= 2
    for table in tables:
        assert table in page


def test_short_table_is_made_from_the_committed_records(record):
    short = markdown.summary(record)
    assert short in (ROOT / "README.md").read_text()
    assert 5 <= len(short.splitlines()) - 2 <= 10


def test_short_table_says_what_the_records_say(record):
    """Read once more, by hand."""
    rows = {
        (row["case"], row["optimizer"], row["subject"]): row for row in record["rows"]
    }
    line = next(
        line
        for line in markdown.summary(record).splitlines()
        if line.startswith('| embedding, `"dense"` | Adam |')
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    key = ("sparse-uniform", "Adam")
    ms = rows[(*key, "ours, dense update")]["ms"]
    assert float(cells[3]) == pytest.approx(ms, rel=0.01)
    keras = rows[(*key, "keras3 graph")]["ms"]
    assert float(cells[4].split("x")[0]) == pytest.approx(keras / ms, rel=0.1)


def test_charts_are_drawn_from_the_committed_records(record):
    image = pytest.importorskip("PIL.Image")
    cases = {row["case"] for row in record["rows"]}
    names = ["benchmark.png", *(f"benchmark-{case}.png" for case in cases)]
    page = (ROOT / "docs" / "charts.md").read_text() + (ROOT / "README.md").read_text()
    for name in names:
        with image.open(ROOT / "docs" / name) as picture:
            assert picture.text["Records"] == plot.digest(record), name
            assert picture.width <= 1000 and picture.height <= 1000, name
        assert f"{name})" in page


def test_ours_was_checked_and_timed_in_every_record(record):
    groups = {(row["case"], row["optimizer"]) for row in record["rows"]}
    ours = {
        (row["case"], row["optimizer"])
        for row in record["rows"]
        if row["subject"] == "ours"
    }
    assert groups == ours


# --- links, and the index of docs


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def anchors(page):
    """As GitHub makes them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", each.lower()) for each in headings]
    return {each.strip().replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.every
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other), target


def test_index_names_every_page_and_decision():
    index = (ROOT / "docs" / "README.md").read_text()
    linked = set(re.findall(r"\]\(([^)#\s]+)", index))
    for page in (ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        assert name in linked or name == "README.md", name


# --- docs/troubleshooting.md


def sources():
    return [
        path
        for path in [
            *ROOT.glob("tf_optim/*.py"),
            *ROOT.glob("tf_optim/optimizers/*.py"),
        ]
        if path.name not in ("reference.py",)
    ]


def joined(path):
    """The text of a file, with strings that go on in the next line made one."""
    text = re.sub(r'"\s*\n\s*f?"', "", path.read_text())
    return re.sub(r"\s*\n\s*", " ", text)


QUOTED = re.compile(r"^### `+ ?(.*?) ?`+$", re.MULTILINE)
CPP = [
    p for f in ("kernels/*.cc", "xla/*.cc", "drivers/*.h") for p in ROOT.glob(f"cc/{f}")
]


def quotes():
    """What the page quotes, in pieces: an ellipsis or a name stands between."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    return [quote.split("…") for quote in QUOTED.findall(page)]


def test_quoted_messages_are_ours():
    everything = "\n".join(joined(path) for path in [*sources(), *CPP])
    assert len(quotes()) > 15
    for pieces in quotes():
        for piece in pieces:
            # Some are TensorFlow's or the loader's, whose words are named here.
            known = "undefined symbol", "No module named"
            piece = piece.strip()
            assert piece.startswith(known) or piece in everything, piece


def test_every_error_of_installation_and_use_is_quoted():
    """All but the ValueErrors, which say what was expected of an argument."""
    raised = {}
    for path in sources():
        for kind, text in re.findall(
            r'raise (ImportError|RuntimeError|TypeError)\(\s*f?"([^{"]*)', joined(path)
        ):
            raised[text.strip()] = (path.name, kind)
    assert len(raised) >= 9
    pieces = [piece.strip() for quote in quotes() for piece in quote]
    for text, where in raised.items():
        start = text.replace("`", "")[:30]
        assert any(piece.replace("`", "").startswith(start) for piece in pieces), where
