"""Errors that the simulator raises at its borders; each is one line that a user can act on."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError


class SimulatorError(ValueError):
    """Bad input of the simulator: says where, what was expected and what was found."""

    def __init__(self, source: Path | str, where: str, *, expected: str, found: str) -> None:
        super().__init__(f"{source}: {where}: expected {expected}, found {found}")


def first_problem(source: Path | str, error: ValidationError) -> SimulatorError:
    """Return the first problem of a pydantic error, naming the field."""
    # A misspelt field is both unknown and missing; the unknown name is the one to tell.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"]) or "content"
    if problem["type"] == "extra_forbidden":
        return SimulatorError(source, where, expected="a known field", found="an unknown one")
    found = "nothing" if problem["type"] == "missing" else repr(problem["input"])[:80]
    return SimulatorError(source, where, expected=problem["msg"], found=found)
