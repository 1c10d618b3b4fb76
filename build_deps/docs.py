"""Builds the documentation as a site, from docs/, README.md and the docstrings.

bazel run //:docs                 into site/, to open without a server: site/index.html
bazel run //:docs -- --serve      and shows it at a local address, built anew on request

What it needs (build_deps/requirements-docs.txt) goes into build/docs/venv at the first
run; after that nothing is fetched. A link that leads nowhere is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

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
.md-typeset table:not([class]) code { white-space: nowrap; word-break: normal; }
.md-grid { max-width: 68rem; }
"""

# A browser starts no worker for a page on disk. The search then runs in a hidden frame,
# which stands in for its worker. (The theme would fetch such a script.)
WORKER = """if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      const script = document.createElement("script");
      script.src = String(url);
      this.frame.addEventListener("load", () => {
        const inside = this.frame.contentWindow;
        inside.postMessage = (data) =>
          this.dispatchEvent(new MessageEvent("message", { data }));
        script.onload = () => {
          this.waiting.forEach((data) => this.deliver(data));
          this.waiting = null;
        };
        inside.document.body.append(script);
      }, { once: true });
      this.frame.srcdoc = "<body></body>";
      document.body.append(this.frame);
    }
    deliver(data) {
      const inside = this.frame.contentWindow;
      inside.dispatchEvent(new inside.MessageEvent("message", { data }));
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.deliver(data);
    }
    terminate() {
      this.frame.remove();
    }
  };
}
"""
FETCHED = '<script src="https://unpkg.com/iframe-worker/shim"></script>'

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


def stub(name):
    """A public name's signature and text, as source.

    They are completed when a class is made (tf_optim/arguments.py), so a look at the
    source would not see all. What reads this needs no TensorFlow.
    """
    import tf_optim

    thing = getattr(tf_optim, name)
    text = _examples(inspect.getdoc(thing))
    text = textwrap.indent(text.replace("\\", "\\\\"), "    ")
    text = f'    """{text.strip()}\n    """\n'
    parameters = [
        p.replace(annotation=p.empty, default=_shown(p.default))
        for p in inspect.signature(thing).parameters.values()
    ]
    if not inspect.isclass(thing):
        return f"def {name}{inspect.Signature(parameters)}:\n{text}\n\n"
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    constructor = inspect.Signature([own, *(p for p in parameters if p.name != "self")])
    return f"class {name}:\n{text}\n    def __init__{constructor}: ...\n\n\n"


def _examples(text):
    """What one types, with its answer, as a block of code."""
    block = re.compile(r"((?:^ *>>> .*\n?)(?:^ *\S.*\n?)*)", re.MULTILINE)
    return block.sub(r"```pycon\n\1\n```\n", text)


def _shown(default):
    """A default as it can be written: one that is an object is not."""
    plain = (bool, int, float, str, tuple, type(None))
    return (
        default
        if default is inspect.Parameter.empty or isinstance(default, plain)
        else ...
    )


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
    titles = {
        str(page.relative_to(PAGES)): page.read_text().split("\n", 1)[0].strip("# ")
        for page in PAGES.rglob("*.md")
    }
    for page in PAGES.rglob("*.md"):
        text = _linked(page, page.read_text())
        page.write_text(_titled(text, titles))
    (PAGES / "site.css").write_text(CSS)
    (PAGES / "api").mkdir()
    optimizers, others = names()
    (PAGES / "api" / "optimizers.md").write_text(reference(OPTIMIZERS, optimizers))
    (PAGES / "api" / "functions.md").write_text(reference(FUNCTIONS, others))
    (FOLDER / "reference").mkdir(exist_ok=True)
    source = "".join(map(stub, [*optimizers, *others]))
    (FOLDER / "reference" / "tf_optim.py").write_text(source)
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


def _titled(text, titles):
    """A link that names a file names the page."""

    def title(link):
        return f"[{titles.get(link[1], link[1])}]("

    return re.sub(r"\[(?:docs/)?([\w./-]+\.md)\]\(", title, text)


def _navigation():
    """mkdocs.yml, with the decisions that there are."""
    text = (ROOT / "mkdocs.yml").read_text()
    decisions = sorted(path.name for path in (PAGES / "decisions").glob("*.md"))
    lines = "".join(f"\n          - decisions/{name}" for name in decisions)
    text = text.replace("Decisions: []", f"Decisions:{lines}")
    # Beside the pages: paths are from where the file lies.
    text = text.replace("docs_dir: build/docs/pages", "docs_dir: pages")
    return text.replace("site_dir: site", f"site_dir: {ROOT / 'site'}")


def without_network(site):
    """Puts our script into the place of the theme's, which is fetched."""
    (site / "worker.js").write_text(WORKER)
    for page in site.rglob("*.html"):
        text = page.read_text()
        root = os.path.relpath(site, page.parent)
        page.write_text(
            text.replace(FETCHED, f'<script src="{root}/worker.js"></script>')
        )
        if re.search(r'<(script|link)[^>]*(src|href)="https?:', page.read_text()):
            sys.exit(f"expected a page that fetches nothing. Received: {page}.")


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    mkdocs = [python, "-m", "mkdocs", "--quiet"]
    what = ["serve"] if args.serve else ["build", "--strict", "--clean"]
    ended = subprocess.run(
        [*mkdocs, *what, "--config-file", FOLDER / "mkdocs.yml"],
        env=environment,
        check=False,
    )
    if ended.returncode == 0 and not args.serve:
        without_network(ROOT / "site")
        print(ROOT / "site" / "index.html")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
