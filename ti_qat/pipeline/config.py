"""The configuration file of `ti-qat run`; docs/configuration.md lists the keys."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ti_qat.config import StudentConfig, TeacherConfig, configure, parse_value, unknown
from ti_qat.errors import ConfigurationError
from ti_qat.method.schedules import Method

Scalar = bool | int | float | str


class Section(BaseModel):
    """Closed to unknown keys, so that a misspelt one is an error and not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Prepare(Section):
    """A script beside the configuration that fetches inputs: called with `--out RUN/inputs`."""

    script: str


class TaskSource(Section):
    """`name`: a GLUE task or a task file beside the configuration; `data`: its folder."""

    name: str
    data: str = "inputs/data"


class ModelSource(Section):
    """`path`: a folder with a pretrained encoder, or its name on the hub."""

    path: str = "inputs/model"


class Teacher(Section):
    """Options of `ti-qat teach`, as `--set` takes them."""

    settings: dict[str, Scalar] = {}


class Student(Section):
    """Options of `ti-qat train`."""

    method: Method = Method.TI_G
    settings: dict[str, Scalar] = {}


class Simulation(Section):
    """Options of `ti-qat simulate`; `accelerator`: a preset's name or a file beside the configuration."""

    accelerator: str = "wearable"
    limit: Annotated[int, Field(ge=1)] | None = None


class RunConfiguration(Section):
    """The whole file. Relative paths are looked up beside the file first, then in the run's folder."""

    prepare: Prepare | None = None
    task: TaskSource
    model: ModelSource = ModelSource()
    teacher: Teacher = Teacher()
    student: Student = Student()
    simulation: Simulation = Simulation()


def read_configuration(file: Path, overrides: Sequence[str] = ()) -> RunConfiguration:
    """Read a TOML file, apply `key.path=value` overrides, validate; raise ConfigurationError."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: expected TOML: {error}") from error
    for override in overrides:
        _apply(raw, override)
    try:
        config = RunConfiguration.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigurationError(f"{file}: {unknown('key', key, _known_beside(first['loc']))}") from error
        raise ConfigurationError(f"{file}: {key}: {first['msg']}, found {first['input']!r}") from error
    for section, settings, model in (
        ("teacher", config.teacher.settings, TeacherConfig),
        ("student", config.student.settings, StudentConfig),
    ):
        try:
            found = configure(model, as_settings(settings), config.task.name)
            if isinstance(found, StudentConfig):
                _require_exportable(found)
        except ConfigurationError as error:
            raise ConfigurationError(f"{file}: {section}.settings: {error}") from error
    return config


def _known_beside(location: Sequence[int | str]) -> list[str]:
    """Return the keys that the section of the key at `location` has."""
    section: Mapping[str, Any] = RunConfiguration.model_fields
    for name in location[:-1]:
        # An optional section is a union with None.
        annotation = section[str(name)].annotation
        kinds = [annotation, *get_args(annotation)]
        section = next(kind.model_fields for kind in kinds if isinstance(kind, type) and issubclass(kind, Section))
    return list(section)


def _require_exportable(student: StudentConfig) -> None:
    """Raise `ConfigurationError` where the run would train a student, only to fail at its export."""
    student.quantizers().exported()
    if not student.exportable:
        raise ConfigurationError("exportable: expected true in a run, which exports its student, found false")


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigurationError(f"--set {override}: expected key.path=value")
    *sections, last = key.split(".")
    target: Any = raw
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigurationError(f"--set {override}: {section} is a value, not a section")
    target[last] = parse_value(text)


def as_set_options(settings: Mapping[str, Scalar]) -> list[str]:
    """Return settings as the `--set key=value` options of a verb."""
    return [option for setting in as_settings(settings) for option in ("--set", setting)]


def as_settings(settings: Mapping[str, Scalar]) -> list[str]:
    """Return settings as `key=value`, values in TOML."""
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items()]
