"""Outputs appear whole, replace only their own kind, and destroy nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ti_qat.artifact.atomic import whole_directory, write_whole
from ti_qat.artifact.errors import OutputError


def write(target: Path, content: str) -> None:
    with whole_directory(target, "kind.json") as fresh:
        (fresh / "kind.json").write_text(content)


def test_an_earlier_output_and_an_empty_folder_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for content in ("first", "second"):
        write(tmp_path / "out", content)
    assert (tmp_path / "out" / "kind.json").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"expected a free path, .* found a folder with other things in it"):
        write(tmp_path / "thesis", "x")
    assert (tmp_path / "thesis" / "thesis.txt").read_text() == "years of work"


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("text")
    with pytest.raises(OutputError, match="found a file"):
        write(tmp_path / "README.md", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_an_error_on_the_way_leaves_the_earlier_output(tmp_path: Path) -> None:
    write(tmp_path / "out", "first")
    with pytest.raises(ZeroDivisionError), whole_directory(tmp_path / "out", "kind.json"):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "kind.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "out", "first")
    (tmp_path / "out").rename(tmp_path / ".out.old")  # what such a kill leaves
    with pytest.raises(ZeroDivisionError), whole_directory(tmp_path / "out", "kind.json"):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "kind.json").read_text() == "first"


def test_a_whole_file_replaces_the_earlier_one(tmp_path: Path) -> None:
    for content in ("first", "second"):
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
