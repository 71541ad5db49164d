"""Options that several verbs of the simulator share."""

from __future__ import annotations

import click

from hwsim.config import preset_names

accelerator_option = click.option(
    "--accelerator",
    required=True,
    metavar="NAME|FILE.toml",
    help=f"A file that describes an accelerator, or one of: {', '.join(preset_names())}.",
)
