"""The command: verbs are lazy, and a user's mistake is one line and exit 2."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ti_qat.artifact.errors import ArtifactError
from ti_qat.cli import VERBS, LazyGroup, main


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_with_an_example_and_the_listed_line(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0, result.output
    assert f"ti-qat {verb}" in result.output
    assert f"Example:\n    ti-qat {verb}" in result.output  # not folded into a paragraph
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    assert command.get_short_help_str(limit=200) == VERBS[verb][1]
    assert any("--json" in parameter.opts for parameter in command.params), "no --json"


def test_listing_the_verbs_imports_none_of_the_heavy_packages() -> None:
    heavy = "('torch', 'transformers', 'onnx', 'onnxruntime', 'numba', 'numpy', 'pydantic')"
    code = (
        "import sys; from click.testing import CliRunner; from ti_qat.cli import main; "
        "r = CliRunner().invoke(main, ['--help']); assert 'predict' in r.output; "
        f"assert not set({heavy}) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def make_group(error: Exception) -> click.Group:
    @click.command()
    def fail() -> None:
        raise error

    class Group(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return fail

    return Group("test")


def test_our_typed_errors_are_one_line_and_exit_2() -> None:
    error = ArtifactError("x/artifact.json", "version", expected="1", found="2\nand more")
    result = CliRunner().invoke(make_group(error), ["fail"])
    assert result.exit_code == 2
    assert result.stderr == "ti-qat: x/artifact.json: version: expected 1, found 2 and more\n"


def test_a_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(make_group(ZeroDivisionError("bug")), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "bundle", "--threads", "0"], "Invalid value for '--threads': 0 is not in the range x>=1."),
        (["run", "nosuch.toml", "--out", "x"], "'nosuch.toml' does not exist."),
        (["pack"], "Missing argument 'ARTIFACT'."),
        (["trian"], "No such command 'trian'."),
    ],
)
def test_misuse_is_one_line_and_exit_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("ti-qat: ")
    assert result.stderr.count("\n") == 1
