"""Builds the documentation as a site, from docs/, README.md and the docstrings.

bazel run //:docs                 into site/, to open without a server: site/index.html
bazel run //:docs -- --serve      and shows it at a local address, built anew on request

What it needs (build_deps/requirements-docs.txt) goes into build/docs/venv at the first
run; after that nothing is fetched. A link that leads nowhere is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "docs"
PAGES = FOLDER / "pages"
REQUIREMENTS = ROOT / "build_deps" / "requirements-docs.txt"
# Pages of the checkout's own folder.
OF_ROOT = ["CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md", "CITATION.cff"]

CSS = """\
/* Tables of figures: small, and wider than a phone they scroll. */
.md-typeset table:not([class]) { font-size: 0.64rem; }
.md-typeset table:not([class]) th { min-width: 3.5rem; }
.md-typeset table:not([class]) th, .md-typeset table:not([class]) td {
  padding: 0.45em 0.7em;
}
.md-grid { max-width: 68rem; }
"""

OPTIMIZERS = """\
# Optimizers

[The optimizers](../optimizers.md) compares them, and says who else has them.
"""

FUNCTIONS = """\
# Functions and other classes

`import tf_optim` has these beside [the optimizers](optimizers.md).
"""


def slug(text, separator):
    """Anchors as the links in the pages have them: those that code hosts make."""
    plain = re.sub(r"[^\w\- ]", "", text.lower())
    return plain.strip().replace(" ", separator)


def names():
    """The public names: (optimizers, others), in the order of the alphabet."""
    from tf_optim import __all__ as every
    from tf_optim import optimizers

    others = set(every) - set(optimizers.__all__) - {"__version__"}
    return sorted(optimizers.__all__), sorted(others)


def reference(title, public):
    """A page of the reference."""
    return title + "".join(f"\n::: tf_optim.{name}\n" for name in public)


def stage():
    """Puts the pages together as the site has them, with the links that it needs."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES)
    for name in OF_ROOT:
        shutil.copy(ROOT / name, PAGES)
    (PAGES / "contents.md").write_text((PAGES / "README.md").read_text())
    (PAGES / "README.md").unlink()
    (PAGES / "index.md").write_text((ROOT / "README.md").read_text())
    for page in PAGES.rglob("*.md"):
        page.write_text(_linked(page, page.read_text()))
    (PAGES / "site.css").write_text(CSS)
    (PAGES / "api").mkdir()
    optimizers, others = names()
    (PAGES / "api" / "optimizers.md").write_text(reference(OPTIMIZERS, optimizers))
    (PAGES / "api" / "functions.md").write_text(reference(FUNCTIONS, others))
    (FOLDER / "mkdocs.yml").write_text(_navigation())


def _linked(page, text):
    """Pages of two folders of the checkout are in one of the site."""
    if page.name in ["index.md", *OF_ROOT]:
        text = text.replace("](docs/README.md", "](contents.md").replace(
            "](docs/", "]("
        )
        return text.replace("](README.md", "](index.md")
    text = text.replace("](../README.md", "](index.md")
    text = re.sub(rf"\]\(\.\./({'|'.join(map(re.escape, OF_ROOT))})", r"](\1", text)
    return text.replace("](README.md", "](contents.md")


def _navigation():
    """mkdocs.yml, with the decisions that there are."""
    text = (ROOT / "mkdocs.yml").read_text()
    decisions = sorted(path.name for path in (PAGES / "decisions").glob("*.md"))
    lines = "".join(f"\n          - decisions/{name}" for name in decisions)
    text = text.replace("Decisions: []", f"Decisions:{lines}")
    # Beside the pages: paths are from where the file lies.
    text = text.replace("docs_dir: build/docs/pages", "docs_dir: pages")
    return text.replace("site_dir: site", f"site_dir: {ROOT / 'site'}")


def tools():
    """The Python that has mkdocs."""
    python = FOLDER / "venv" / "bin" / "python"
    mark = FOLDER / "venv" / "requirements"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != wanted:
        print(f"installing {REQUIREMENTS.name} into {FOLDER / 'venv'}", flush=True)
        venv = [sys.executable, "-m", "venv", "--clear", FOLDER / "venv"]
        subprocess.run(venv, check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-input"]
        subprocess.run(
            [*install, "--disable-pip-version-check", "-r", REQUIREMENTS], check=True
        )
        mark.write_text(wanted)
    return python


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="bazel run //:docs --")
    parser.add_argument("--serve", action="store_true", help="show it as well")
    args = parser.parse_args(arguments)
    python = tools()
    stage()
    # The tools' own packages first, and behind them those that tf_optim needs.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "NO_MKDOCS_2_WARNING": "true",
    }
    mkdocs = [python, "-m", "mkdocs", "--quiet"]
    what = ["serve"] if args.serve else ["build", "--strict", "--clean"]
    ended = subprocess.run(
        [*mkdocs, *what, "--config-file", FOLDER / "mkdocs.yml"],
        env=environment,
        check=False,
    )
    if ended.returncode == 0 and not args.serve:
        print(ROOT / "site" / "index.html")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
