"""A mutant: one place of the code that is broken, and the tests that are to see it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mutant:
    """`old`, once in the file, becomes `new`; `tests` are pytest's arguments."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple

    @property
    def is_compiled(self):
        return self.path.startswith("cc/")

    @property
    def libraries(self):
        """What its tests need."""
        ops = () if all("native" in test for test in self.tests) else ("_tf_optim_ops",)
        return tuple(f"{name}.so" for name in ("_native", *ops))


def _modules(names):
    return tuple(f"tests/{name}_test.py" for name in names.split())


def of_python(path, modules, **substitutions):
    return [
        Mutant(name.replace("_", "-"), f"tf_optim/{path}", old, new, _modules(modules))
        for name, (old, new) in substitutions.items()
    ]


def of_cpp(path, modules, **substitutions):
    return [
        Mutant(name.replace("_", "-"), f"cc/{path}", old, new, _modules(modules))
        for name, (old, new) in substitutions.items()
    ]
