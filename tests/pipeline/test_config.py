"""A configuration is read strictly; a mistake is one line that names file and key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ti_qat.errors import ConfigurationError
from ti_qat.method.schedules import Method
from ti_qat.pipeline.config import as_set_options, read_configuration
from ti_qat.pipeline.stages import accelerator_check, plan

MINIMAL = '[task]\nname = "sst2"\ndata = "glue"\n[model]\npath = "some/model"\n'


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "config.toml").write_text(text)
    return tmp_path / "config.toml"


def test_overrides_reach_nested_keys_with_their_types(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL)
    overrides = [
        "student.settings.learning_rate=2e-5",
        "student.method=kd",
        "simulation.limit=7",
        "teacher.settings.seed=3",
    ]
    config = read_configuration(file, overrides)
    assert config.student.settings == {"learning_rate": 2e-5}
    assert (config.student.method, config.simulation.limit, config.teacher.settings["seed"]) == ("kd", 7, 3)


@pytest.mark.parametrize("method", list(Method))
def test_every_method_can_be_configured_and_reaches_the_verb(tmp_path: Path, method: Method) -> None:
    config = read_configuration(write(tmp_path, MINIMAL), [f"student.method={method.value}"])
    train = next(stage for stage in plan(config, tmp_path, tmp_path / "run") if stage.name == "student").argv
    assert train[train.index("--method") + 1] == method.value


def test_reading_a_configuration_needs_no_torch() -> None:
    code = "import sys, ti_qat.pipeline.command; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            MINIMAL + "[studnet]\n",
            [],
            r"toml: studnet: unknown key, did you mean student\? known: prepare, task",
        ),
        (MINIMAL + "[prepare]\nscirpt = 'x'\nscript = 'y'\n", [], r"prepare\.scirpt: .*, did you mean script\?"),
        (MINIMAL, ["simulation.xyzzy=1"], r"simulation\.xyzzy: unknown key; known: accelerator, limit$"),
        (MINIMAL + '[student]\nmethod = "ti-x"\n', [], r"student\.method: .*'ti-g'"),
        ("[task]\n", [], r"task\.name: Field required"),
        ("[task\n", [], r"config\.toml: expected TOML"),
        (MINIMAL, ["simulation.limit=0"], r"simulation\.limit: .*greater than or equal to 1, found 0"),
        (MINIMAL, ["student.settings.epoch=1"], r"student\.settings: epoch: unknown setting, did you mean epochs\?"),
        (MINIMAL, ["teacher.settings.epochs=-1"], r"teacher\.settings: epochs: Input should be greater than 0"),
        (MINIMAL, ["student"], r"--set student: expected key\.path=value"),
        (MINIMAL, ["task.name.x=1"], r"--set task\.name\.x=1: name is a value"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_configuration(write(tmp_path, text), overrides)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read"):
        read_configuration(tmp_path / "none.toml")


def test_settings_become_set_options_of_the_verb() -> None:
    assert as_set_options({"a": True, "b": 1e-4, "c": "x"}) == ["--set", "a=true", "--set", "b=0.0001", "--set", "c=x"]


def test_files_beside_the_configuration_win_over_names(tmp_path: Path) -> None:
    (tmp_path / "task.toml").touch()
    (tmp_path / "prepare.py").touch()
    file = write(
        tmp_path,
        '[prepare]\nscript = "prepare.py"\n[task]\nname = "task.toml"\n[simulation]\naccelerator = "wearable"\n',
    )
    stages = {stage.name: stage for stage in plan(read_configuration(file), tmp_path, tmp_path / "run")}
    assert next(iter(stages)) == "inputs"
    teach = stages["teacher"].argv
    assert teach[teach.index("--task") + 1] == str(tmp_path / "task.toml")
    assert teach[teach.index("--data") + 1] == str(tmp_path / "run/inputs/data")
    assert teach[teach.index("--model") + 1] == str(tmp_path / "run/inputs/model")
    assert "wearable" in stages["simulation"].argv
    assert stages["teacher"].reads == (tmp_path / "task.toml",)


def test_an_accelerator_file_defines_the_simulation_and_not_the_training(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    config = read_configuration(write(tmp_path, MINIMAL), ["simulation.accelerator=mine.toml"])
    reads = {stage.name: stage.reads for stage in plan(config, tmp_path, tmp_path / "run")}
    assert [name for name, files in reads.items() if tmp_path / "mine.toml" in files] == ["simulation"]


def test_an_accelerator_that_the_script_has_yet_to_make_is_not_checked(tmp_path: Path) -> None:
    config = read_configuration(
        write(tmp_path, '[prepare]\nscript = "prepare.py"\n' + MINIMAL), ["simulation.accelerator=inputs/mine.toml"]
    )
    run_dir = tmp_path / "run"
    assert accelerator_check(config, tmp_path, run_dir) is None
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/mine.toml").touch()
    check = accelerator_check(config, tmp_path, run_dir)
    assert check is not None
    assert check[-3:] == ("accelerators", str(run_dir / "inputs/mine.toml"), "--json")


def test_a_glue_name_and_a_hub_name_are_passed_on(tmp_path: Path) -> None:
    config = read_configuration(write(tmp_path, MINIMAL))
    teach = plan(config, tmp_path, tmp_path / "run")[0].argv
    assert (teach[teach.index("--task") + 1], teach[teach.index("--model") + 1]) == ("sst2", "some/model")
