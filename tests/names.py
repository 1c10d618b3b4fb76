"""Writes tf_optim/optimizers/__init__.py: python -m tests.names

Type checkers know no name that is found only when the program runs, so the list of
optimizers is a file. It is made of the modules beside it; style_test.py compares.
"""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tf_optim" / "optimizers"
LIST = FOLDER / "__init__.py"
CLASS = re.compile(r"^@flavour\.register\nclass (\w+)", re.MULTILINE)


def text():
    """What the file has to be."""
    named = [
        (name, path.stem)
        for path in sorted(FOLDER.glob("*.py"))
        for name in CLASS.findall(path.read_text())
    ]
    imports = [f"from tf_optim.optimizers.{room} import {name}" for name, room in named]
    listed = [f'    "{name}",' for name, _ in sorted(named)]
    return "\n".join(
        [
            '"""The optimizers, one file each. Made by `python -m tests.names`."""',
            "",
            *imports,
            "",
            "__all__ = [",
            *listed,
            "]\n",
        ]
    )


if __name__ == "__main__":
    LIST.write_text(text())
