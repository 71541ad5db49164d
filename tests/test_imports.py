"""The import rules of docs/architecture.md, as contracts of import-linter in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_import_contracts_are_kept() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_top_level_is_what_the_architecture_names() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    top = {name.split("/")[0] for name in names}
    assert top - {".gitignore", ".clang-format"} <= {
        "ti_qat", "hwsim", "deploy", "benchmarks", "tests", "docs", "examples", "pyproject.toml", "Makefile",
        "README.md", "CHANGELOG.md", "LICENSE", ".ci",
    }  # fmt: skip


def test_files_keep_their_budget() -> None:
    for package in ("ti_qat", "hwsim", "deploy"):
        for file in (ROOT / package).rglob("*"):
            if file.suffix in {".py", ".cpp", ".h", ".toml", ".j2"}:
                assert len(file.read_text().splitlines()) <= 400, file


def test_no_module_above_the_ground_floor_is_left_out_of_its_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    listed = next(c["forbidden_modules"] for c in contracts if c["name"] == "Only the ground floor is shared")
    modules = {file.stem for file in (ROOT / "ti_qat").glob("*.py")} - {"__init__"}
    packages = {file.parent.name for file in (ROOT / "ti_qat").glob("*/__init__.py")} - {"artifact"}
    assert set(listed) == {f"ti_qat.{name}" for name in modules | packages}
