"""The command: verbs are lazy, and a user's mistake is one line and exit 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ti_qat import recipes
from ti_qat.artifact.errors import ArtifactError
from ti_qat.cli import VERBS, LazyGroup, main
from ti_qat.training.checkpoints import publish


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


@pytest.mark.parametrize("verb", ["teach", "train", "evaluate", "export", "publish"])
def test_help_of_the_training_verbs_imports_no_torch(verb: str) -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'accelerate', 'huggingface_hub'}"
    code = (
        "import sys; from click.testing import CliRunner; from ti_qat.cli import main; "
        f"r = CliRunner().invoke(main, ['{verb}', '--help']); assert r.exit_code == 0, r.output; "
        f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--task", "sst2", "--set", "epoch=1"], "epoch: unknown setting, did you mean epochs?"),
        (["--task", "sst2", "--set", "epochs=-1"], "epochs: Input should be greater than 0"),
        (["--task", "sst3"], "task 'sst3' is not known"),
    ],
)
@pytest.mark.parametrize("verb", ["teach", "train"])
def test_a_wrong_setting_is_told_before_torch_is_imported(
    tmp_path: Path, verb: str, wrong: list[str], message: str
) -> None:
    source = "--model" if verb == "teach" else "--teacher"
    options = [source, str(tmp_path), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    code = (
        "import sys; from click.testing import CliRunner; from ti_qat.cli import main; "
        f"r = CliRunner().invoke(main, {[verb, *options, *wrong]!r}); "
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules); "
        "sys.stderr.write(r.stderr); sys.exit(r.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"ti-qat: {message}")


def make_group(error: BaseException) -> click.Group:
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


@pytest.mark.parametrize(
    ("error", "line"),
    [(KeyboardInterrupt(), "interrupted"), (KeyboardInterrupt("interrupted; go on"), "interrupted; go on")],
)
def test_an_interruption_is_one_line_and_the_exit_status_of_shells(error: KeyboardInterrupt, line: str) -> None:
    result = CliRunner().invoke(make_group(error), ["fail"])
    assert (result.exit_code, result.stderr) == (130, f"ti-qat: {line}\n")


@pytest.mark.parametrize(
    ("checkpoints", "told"),
    [
        ((), "interrupted before the first checkpoint; the same command starts again"),
        ((3, 12, 6), "the work so far is kept in {out}.partial, and the same command goes on from step 12"),
    ],
)
@pytest.mark.parametrize("verb", ["teach", "train"])
def test_interrupted_training_says_where_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, checkpoints: tuple[int, ...], told: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, verb, interrupted)
    out = tmp_path / "out"
    for step in checkpoints:
        publish_empty(tmp_path / f"out.partial/checkpoint-{step}")
    (tmp_path / "out.partial/checkpoint-15").mkdir(parents=True)  # being written: it is not complete
    source = "--model" if verb == "teach" else "--teacher"
    options = [source, str(tmp_path), "--task", "sst2", "--data", str(tmp_path), "--out", str(out)]
    result = CliRunner().invoke(main, [verb, *options])
    assert (result.exit_code, result.stderr.count("\n")) == (130, 1)
    assert told.format(out=out) in result.stderr


def publish_empty(checkpoint: Path) -> None:
    checkpoint.mkdir(parents=True)
    publish(checkpoint)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("toaster", None, "phone, server, vitallm_like, wearable, zymet_like, found 'toaster'"),
        ("mine.toml", None, "mine.toml: file: expected a TOML file"),
        ("mine.toml", "array_rows = 0\n", "mine.toml: "),
    ],
)
def test_a_wrong_accelerator_ends_a_run_before_its_first_stage(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    (tmp_path / "config.toml").write_text(f'[task]\nname = "sst2"\n[simulation]\naccelerator = "{name}"\n')
    if content is not None:
        (tmp_path / name).write_text(content)
    result = CliRunner().invoke(main, ["run", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert result.stderr.startswith(f"ti-qat: {tmp_path / 'config.toml'}: simulation.accelerator: ")
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_stage_that_has_told_its_user_what_is_wrong_is_not_repeated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text('[task]\nname = "sst3"\ndata = "."\n')
    done = subprocess.run(
        [sys.executable, "-m", "ti_qat", "run", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")],
        check=False,
    )
    said = capfd.readouterr().err.splitlines()
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in said] == ["[1/8] Fine-tune the full-precision teacher", "ti-qat"]
    assert "task 'sst3' is not known" in said[-1]


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
