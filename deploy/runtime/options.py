"""What the verbs of a device take alike."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.runtime.session import ISAS

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the operators (default: all cores)."
)
isa_option = click.option(
    "--isa", type=click.Choice(ISAS), help="Force an instruction set (default: $TI_QAT_ISA, the best)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
