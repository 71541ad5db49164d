"""The verb `ti-qat compare`."""

from __future__ import annotations

from pathlib import Path

import click

from hwsim.reporting.comparison import ALLOWED_BY, Comparison
from hwsim.reporting.comparison import compare as compare_folders
from hwsim.reporting.comparison_page import HTML_FILE, JSON_FILE, shown, write_comparison
from ti_qat.artifact.atomic import require_replaceable


@click.command(short_help="Hold two simulations, or two runs, side by side.")
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option(
    ALLOWED_BY, "different_artifacts", is_flag=True, help="Compare models as well: A and B need not be of one artifact."
)
@click.option("--out", "out_dir", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True, help="Print comparison.json on standard output.")
def compare(first: Path, second: Path, different_artifacts: bool, out_dir: Path, as_json: bool) -> None:
    """Compare the figures of two outputs of `ti-qat simulate` or `ti-qat run`; write a page, JSON, CSV and pictures.

    \b
    Example:
      ti-qat compare simulation_wearable simulation_phone --out comparison
    """
    require_replaceable(out_dir, JSON_FILE)
    found = compare_folders(first, second, different_artifacts=different_artifacts)
    write_comparison(out_dir, found)
    click.echo(found.model_dump_json() if as_json else _told(found, out_dir))


def _told(found: Comparison, out_dir: Path) -> str:
    """Return the figures as lines, the ratio last."""
    rows = [["", "A", "B", "B / A"]]
    for figure in found.figures:
        unit, *values = shown(figure)
        rows.append([f"{figure.name.replace('_', ' ')} {unit}".strip(), *values])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [row[0].ljust(widths[0]) + "".join("  " + row[c].rjust(widths[c]) for c in (1, 2, 3)) for row in rows]
    differing = [f"differs: {d.name}, {d.first} and {d.second}" for d in found.differences]
    return "\n".join([*lines, *differing, f"page: {out_dir / HTML_FILE}"])
