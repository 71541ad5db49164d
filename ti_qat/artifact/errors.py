"""The errors that reading and writing raise."""

from __future__ import annotations

from pathlib import Path


class ArtifactError(ValueError):
    """An artifact that breaks its contract; says where, what was expected and what was found."""

    def __init__(self, file: Path | str, where: str, *, expected: str, found: str) -> None:
        self.file = Path(file)
        self.where = where
        self.expected = expected
        self.found = found
        super().__init__(f"{file}: {where}: expected {expected}, found {found}")


class OutputError(ValueError):
    """A place for an output that holds something else, which writing would destroy."""
