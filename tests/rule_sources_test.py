"""What the build makes of a rule's header, and what it says of one that is wrong."""

import subprocess

import pytest

from tests.style_test import ROOT

TEMPLATE = "head\n#include <@HEADER@>\nf(@VARIANTS@{});\ntail\n"
RULE = "using {0}Variants = Variants<{0}>;\n"


def made(tmp_path, *headers):
    (tmp_path / "rule.tpl").write_text(TEMPLATE)
    for i, text in enumerate(headers):
        (tmp_path / f"{i}.h").write_text(text)
    script = ROOT / "build_deps" / "rule_sources.sh"
    names = [f"{i}.h" for i in range(len(headers))]
    return subprocess.run(
        [script, "rule.tpl", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_lines_are_there_for_each_header(tmp_path):
    done = made(tmp_path, RULE.format("A"), "// using\n" + RULE.format("RMSprop"))
    assert done.stdout == (
        "head\n#include <0.h>\n#include <1.h>\n"
        "f(AVariants{});\nf(RMSpropVariants{});\ntail\n"
    )
    assert done.returncode == 0


@pytest.mark.parametrize("wrong", ["", RULE.format("A") + RULE.format("B")])
def test_a_header_without_one_name_is_an_error(tmp_path, wrong):
    done = made(tmp_path, RULE.format("Good"), wrong)
    assert done.returncode != 0
    assert "1.h must have one line `using NameVariants" in done.stderr


WRONG = {
    '{"beta_1", "beta_2", "epsilon"}': ('{"beta_1", "beta_2"}', "kHyperNames must"),
    "{kFraction, kFraction, kNotNegative}": ("{kFraction}", "kHyperRanges must"),
    '{"momentum", "velocity"}': ('{"momentum"}', "kSlotNames must"),
    "V beta_1, beta_2, epsilon": (
        "V a, b, c, d, e, f, h, i, j, k, l",
        "a struct of a rule has too many members",
    ),
}


@pytest.mark.parametrize("right", WRONG, ids=lambda text: WRONG[text][1])
def test_the_compiler_says_what_a_rule_lacks(right, tmp_path):
    wrong, said = WRONG[right]
    text = (ROOT / "cc" / "rules" / "yogi.h").read_text()
    assert right in text
    (tmp_path / "yogi.h").write_text(text.replace(right, wrong))
    (tmp_path / "main.cc").write_text(
        '#include "yogi.h"\n'
        "tf_optim::YogiVariants variants;\n"
        "tf_optim::Yogi::Hyper<double> hyper;\n"
        "int main() { tf_optim::ForEachField(hyper, [](auto, auto&) {}); }\n"
    )
    command = ["g++", "-std=c++17", "-fsyntax-only", f"-I{ROOT}", "main.cc"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"static assertion failed: {said}" in done.stderr
