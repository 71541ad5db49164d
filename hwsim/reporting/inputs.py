"""Results of earlier stages, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hwsim.errors import SimulatorError, first_problem
from hwsim.simulate import SIMULATION_FILE, Simulation

Model = TypeVar("Model", bound=BaseModel)


def read_text(file: Path) -> str:
    """Return the content of a file. Raises SimulatorError where there is none."""
    if not file.is_file():
        raise SimulatorError(file, "file", expected="a result of an earlier stage", found="nothing of that name")
    return file.read_text(encoding="utf-8")


def parse(source: Path | str, text: str, model: type[Model]) -> Model:
    """Validate JSON. Raises SimulatorError naming the field that is wrong."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise first_problem(source, error) from error


def read_simulation(folder: Path) -> Simulation:
    """Read the simulation.json of a simulation's folder. Raises SimulatorError."""
    file = folder / SIMULATION_FILE
    return parse(file, read_text(file), Simulation)
