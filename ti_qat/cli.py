"""The `ti-qat` command: a group whose verbs are imported only when they are called.

So `ti-qat predict` never imports torch, and `ti-qat --help` imports nothing but click.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from ti_qat import __version__

# Verb: (where its click command lives, one line for --help). The line is repeated here so that
# listing the verbs does not import them; a test holds it equal to the command's own.
VERBS: Final[dict[str, tuple[str, str]]] = {
    "run": (
        "ti_qat.pipeline.command:run",
        "Run the whole pipeline of a configuration file; resumes where it was killed.",
    ),
    "teach": ("ti_qat.commands:teach", "Fine-tune the full-precision teacher."),
    "train": ("ti_qat.commands:train", "Train the ternary student under teacher intervention."),
    "evaluate": ("ti_qat.commands:evaluate", "Score a teacher or a student on a task's evaluation split."),
    "publish": ("ti_qat.commands:publish", "Write a student with 2-bit weights for transformers, to share."),
    "export": ("ti_qat.commands:export", "Write a trained student as an artifact."),
    "inspect": ("deploy.inspection:inspect", "Describe an artifact or a bundle."),
    "simulate": ("hwsim.cli:simulate", "Run an artifact through a ternary accelerator, bit by bit."),
    "upsets": (
        "hwsim.faults.cli:upsets",
        "Flip bits of memories and accumulators; score against rate and protection.",
    ),
    "accelerators": ("hwsim.cli:accelerators", "List the accelerators, or check and describe one."),
    "import-energy": ("hwsim.energy.cli:import_energy", "Make an energy table of Accelergy's reference tables."),
    "sweep": ("hwsim.exploration.cli:sweep", "Evaluate many accelerators; tell which ones nothing beats."),
    "pack": ("deploy.cli:pack", "Pack an artifact as an ONNX bundle, at 2 bits a weight or less."),
    "verify": ("deploy.cli:verify", "Hold a bundle against its artifact on the whole evaluation split."),
    "predict": ("deploy.runtime.predict_cli:predict", "Classify texts with a bundle."),
    "bench": ("deploy.runtime.bench_cli:bench", "Measure a bundle's latency on this machine."),
    "report": ("hwsim.cli:report", "Write a run's report again from its stages' results."),
    "compare": ("hwsim.reporting.cli:compare", "Hold two simulations, or two runs, side by side."),
}
OUR_PACKAGES: Final = ("ti_qat", "hwsim", "deploy")


class LazyGroup(click.Group):
    """Imports a verb's module on first use and turns our typed errors into one line and exit 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the pipeline."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the verb, or None where there is none of that name."""
        if cmd_name not in VERBS:
            return None
        module_name, attribute = VERBS[cmd_name][0].split(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] in OUR_PACKAGES:
                raise
            raise click.ClickException(
                f"`ti-qat {cmd_name}` needs the package {error.name}, which is not installed; "
                f"pip install 'ti-qat[{_extra(module_name)}]' brings it"
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; an error of our own packages' types is the user's to read, the rest are bugs."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else ctx.command_path
            click.echo(f"ti-qat: {' '.join(error.format_message().split())} (see {path} --help)", err=True)
            ctx.exit(2)
        except KeyboardInterrupt as error:
            click.echo(f"ti-qat: {str(error) or 'interrupted'}", err=True)
            ctx.exit(130)  # 128 and the number of SIGINT, as shells have it
        except Exception as error:
            if type(error).__module__.split(".")[0] not in OUR_PACKAGES:
                raise
            click.echo(f"ti-qat: {' '.join(str(error).split())}", err=True)
            ctx.exit(2)


def _extra(module_name: str) -> str:
    return {"ti_qat": "train", "hwsim": "sim"}.get(module_name.partition(".")[0], "pack")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ti-qat")
def main() -> None:
    """Train ternary Transformers, simulate them on an accelerator, run them on a CPU at 2 bits a weight."""
