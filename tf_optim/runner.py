"""`python -m tf_optim script.py`: runs a program with our optimizers in Keras' place.

Nothing here imports TensorFlow. The program may set environment variables that
TensorFlow and Keras read when they are imported, and may never import them.
"""

import argparse
import functools
import importlib.machinery
import importlib.util
import os
import re
import sys
import time
import types
import zipfile
from typing import Any

from tf_optim.annotations import SparseUpdate

# The first is the default: the mode that keeps what a script trains with stock Keras.
SPARSE_UPDATES: tuple[SparseUpdate, ...] = ("dense", "exact", "lazy")
# What brings Keras' optimizers into a process.
_ROOTS = ("keras", "tensorflow", "tf_keras")
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def is_command():
    """Whether this is `python -m tf_optim`, and its package is being looked for."""
    own = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return (
        sys.argv[:1] == ["-m"]
        and bool(own)
        and re.fullmatch(r"(-[a-zA-Z]*m)?tf_optim", own[-1]) is not None
    )


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command's own arguments."""
    result = argparse.ArgumentParser(
        prog="python -m tf_optim",
        usage="%(prog)s [OPTIONS] script.py ARGS\n"
        "       %(prog)s [OPTIONS] -m module ARGS",
        description="Runs a Python program as `python` would, with tf_optim's "
        "optimizers wherever the program makes one of tf.keras.optimizers. "
        "`python -m tf_optim.demo` and `python -m tf_optim.benchmark` are programs "
        "of the package itself.",
        allow_abbrev=False,
    )
    result.add_argument(
        "--sparse-update",
        choices=SPARSE_UPDATES,
        default=SPARSE_UPDATES[0],
        help="what the gradient of an embedding changes. dense: all rows, as in "
        "Keras. exact: the same at the cost of the rows that the batch names; "
        "Embedding layers become tf_optim's. lazy: only the rows that the batch "
        "names, which is faster and trains differently (default: %(default)s)",
    )
    result.add_argument(
        "--only",
        metavar="NAMES",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        help="the optimizers to replace, as in Adam,SGD (default: all that "
        "tf_optim has)",
    )
    result.add_argument(
        "--verbose",
        action="store_true",
        help="say so for each optimizer that is replaced",
    )
    return result


def _split(arguments):
    """Returns our own arguments, and those from the program's on.

    By hand: what is the program's, `--` and `-m` too, is no business of argparse's.
    """
    place = 0
    while place < len(arguments):
        option = arguments[place]
        if not option.startswith("-") or option.startswith("-m"):
            break
        place += 2 if option in ("--sparse-update", "--only") else 1
    return arguments[:place], arguments[place:]


def main():
    """Runs the program that the command line names; ends as the program ends."""
    own, line = _split(sys.argv[1:])
    options = parser().parse_args(own)
    is_module = bool(line) and line[0].startswith("-m")
    if is_module:
        line = line[1:] if line[0] == "-m" else [line[0][2:], *line[1:]]
    if not line:
        parser().error("expected a script, or -m and a module. Received: neither")
    name, *arguments = line
    if is_module:
        program = functools.partial(_module, name)
    elif os.path.exists(name):
        program = functools.partial(_script, name)
    else:
        _error(2, f"expected a script. Received: {name!r}, and there is no such file")
    sys.argv = [name, *arguments]
    forget_the_package()
    hook = AfterImport(
        only=options.only,
        sparse_update=options.sparse_update,
        verbose=options.verbose,
    )
    sys.meta_path.insert(0, hook)
    hook.look()
    code, namespace = program()
    _show_only_the_program(code)
    start = time.perf_counter()
    try:
        exec(code, namespace)
    finally:
        hook.summarize(time.perf_counter() - start)


def _error(status, message):
    print(f"python -m tf_optim: error: {message}.", file=sys.stderr)
    sys.exit(status)


def forget_the_package():
    """So that `import tf_optim` in the program is the first one."""
    if getattr(sys.modules.get("tf_optim"), "__all__", None):
        return  # imported as a whole already
    for name in [*sys.modules]:
        if name.partition(".")[0] == "tf_optim":
            del sys.modules[name]


# --- the program's code, and its module


def _script(path):
    if os.path.isdir(path) or zipfile.is_zipfile(path):
        path = os.path.abspath(path)
        _set_first_on_path(path)
        spec = importlib.machinery.PathFinder.find_spec("__main__", [path])
        if spec is None:
            _error(1, f"expected __main__.py in {path!r}. Received: none there")
        return _main_module(spec, spec)
    _set_first_on_path(os.path.dirname(os.path.realpath(path)))
    path = os.path.abspath(path)
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    spec = importlib.util.spec_from_file_location("__main__", path, loader=loader)
    return _main_module(spec, None)


def _module(name):
    _set_first_on_path(os.getcwd())
    spec, why = None, "not found"
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:  # or its package imports what is not there
        why = str(error)
    if spec is None or spec.loader is None:
        _error(1, f"expected a module. Received: {name!r} ({why})")
    sys.argv[0] = spec.origin
    return _main_module(spec, spec)


def _main_module(spec, said):
    """Makes `__main__` as the interpreter does; `said` is its `__spec__`.

    Returns its code and namespace.
    """
    _show_only_the_program(None)
    if said is None:  # of a script, no cached code
        source = spec.loader.get_data(spec.origin)
        code = spec.loader.source_to_code(source, spec.origin)
    else:
        code = spec.loader.get_code(spec.name)
    module = types.ModuleType("__main__")
    vars(module).update(
        __annotations__={},
        __builtins__=__builtins__,
        __cached__=None if said is None else spec.cached,
        __file__=spec.origin,
        __loader__=spec.loader,
        __package__=None if said is None else spec.parent,
        __spec__=said,
    )
    sys.modules["__main__"] = module
    return code, vars(module)


def _set_first_on_path(folder):
    """In place of the folder that `python -m` has put there."""
    safe = getattr(sys.flags, "safe_path", False) or sys.flags.isolated
    if sys.path and not safe:
        sys.path[0] = folder


def _show_only_the_program(code):
    """Tracebacks of the program's errors begin at the program.

    Args:
        code: of the program's module; None while it is being compiled.
    """
    hook = _shown_by.get("hook", sys.excepthook)
    _shown_by["hook"] = hook

    def show(kind, error, traceback):
        frames = list(_frames(traceback))
        codes = [each.tb_frame.f_code for each in frames]
        if code is not None:
            first = codes.index(code) if code in codes else len(codes)
        else:  # of an error of syntax; a loader's frames are Python's
            files = [each.co_filename for each in codes]
            first = max((i for i, name in enumerate(files) if name == __file__))
            first += 1 if "get_code" in [each.co_name for each in codes] else len(codes)
        traceback = frames[first] if first < len(frames) else None
        error.__traceback__ = traceback
        hook(kind, error, traceback)

    sys.excepthook = show


def _frames(traceback):
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


_shown_by: dict[str, Any] = {}


# --- when Keras comes


class AfterImport:
    """A finder of modules that replaces Keras' optimizers once Keras is there.

    Args:
        only: as `names` of `patch_keras`.
        sparse_update: as in `patch_keras`.
        verbose: as in `patch_keras`.
    """

    def __init__(self, **arguments):
        self._names = arguments.pop("only")
        self._arguments = arguments
        self._depth = 0
        self._replacement = None
        self._backend = None
        self._is_refused = False

    def find_spec(self, name, path=None, target=None):
        """Finds what the other finders do, and remembers when it has been imported."""
        if name not in _ROOTS:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or not find else find(name, path, target)
            if spec is not None:
                break
        else:
            return None
        if spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            del spec.loader.exec_module
            self._depth += 1
            try:
                execute(module)
            finally:
                self._depth -= 1
            self.look()

        spec.loader.exec_module = exec_module
        return spec

    def look(self):
        """Replaces the optimizers of what is imported, and not in the middle of it."""
        if self._depth or not any(root in sys.modules for root in _ROOTS):
            return
        self._backend = _keras_backend()
        if self._backend is None:
            return
        if self._backend != "tensorflow":
            return
        self._depth += 1  # what comes with our package is part of this
        try:
            if self._replacement is None:
                replacement = _imported("tf_optim.replacement")
                replacement.replace(self._names, **self._arguments)
                self._replacement = replacement
            else:
                self._replacement.watch()
        except ValueError as error:  # of the options
            self._is_refused = True
            said = str(error).replace("`names`", "--only").replace("names=", "")
            _error(2, said.rstrip("."))
        finally:
            self._depth -= 1

    def summarize(self, seconds):
        """Prints one line about what was replaced."""
        if self._is_refused:
            return  # of which the error has spoken
        if self._backend not in (None, "tensorflow"):
            said = (
                "nothing was replaced: Keras' backend must be tensorflow. "
                f"Received: {self._backend}"
            )
        elif self._replacement is None:
            said = "nothing was replaced: neither Keras nor TensorFlow was imported"
        else:
            said = self._replacement.summary()
        print(f"tf_optim: {said}; {seconds:.1f} s in all.", file=sys.stderr)


def _keras_backend():
    """Keras' backend; where Keras is not imported, the one that it would have.

    None for a module that is called keras and is something else.
    """
    if "keras" in sys.modules:
        backend = getattr(sys.modules["keras"], "backend", None)
        return backend.backend() if hasattr(backend, "backend") else None
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True"):
        return "tensorflow"
    return os.environ.get("KERAS_BACKEND", "tensorflow")


def _imported(name):
    """Our module, though the program's path may not lead to it."""
    if _PACKAGE_PARENT in sys.path:
        return importlib.import_module(name)
    sys.path.append(_PACKAGE_PARENT)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(_PACKAGE_PARENT)
