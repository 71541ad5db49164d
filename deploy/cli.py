"""The packing side's verbs: `ti-qat pack` and `ti-qat verify`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from deploy.bundle import PROFILES, WEIGHT_BITS, read_bundle
from deploy.export import pack as pack_artifact
from deploy.runtime.machine import machine, peak_rss_bytes
from deploy.runtime.session import ISAS
from deploy.verification import Verification, default_isas, passes
from deploy.verification import verify as verify_bundle
from ti_qat.artifact import io
from ti_qat.artifact.evaluation import agreement_line

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command(short_help="Pack an artifact as an ONNX bundle, at 2 bits a weight or less.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle directory to write.")
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default=PROFILES[0],
    show_default=True,
    help="Our operators, or ONNX Runtime's own alone.",
)
@click.option(
    "--weight-bits",
    type=click.Choice([f"{bits:g}" for bits in WEIGHT_BITS]),
    default=f"{WEIGHT_BITS[0]:g}",
    show_default=True,
    help="Bits a ternary weight takes on disk.",
)
@_json
def pack(artifact: Path, out: Path, profile: str, weight_bits: str, as_json: bool) -> None:
    """Pack an artifact as an ONNX bundle.

    With the profile `ops` it computes the bits of docs/numerics.md, quickest with our compiled operators.
    With `standard` it needs ONNX Runtime 1.24 or newer and nothing of ours; docs/bundle.md compares them.

    \b
    Example:
      ti-qat pack runs/movie_reviews/artifact --out runs/movie_reviews/bundle
      ti-qat pack runs/movie_reviews/artifact --out runs/movie_reviews/small --weight-bits 1.6
    """
    bundle = pack_artifact(io.load(artifact), out, profile=profile, weight_bits=float(weight_bits))
    figures = bundle.manifest.ternary_linears
    if as_json:
        sizes = {"bundle_bytes": bundle.size_bytes, "peak_rss_bytes": peak_rss_bytes()}
        click.echo(json.dumps({"path": str(out), **sizes, **asdict(bundle.manifest)}))
        return
    click.echo(f"{out}: {bundle.size_bytes / 1e6:.2f} MB")
    click.echo(
        f"{figures.weights:,} ternary weights of linears at {figures.bits_per_weight:.3f} bits, "
        f"{figures.bits_per_weight_with_scales:.3f} with their scales"
    )


def _thread_counts(_ctx: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    parts = value.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"expected positive integers with commas between them, found {value!r}")
    return tuple(int(part) for part in parts)


def _isas(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    chosen = tuple(value.split(","))
    if unknown := set(chosen) - set(ISAS):
        raise click.BadParameter(f"expected some of {', '.join(ISAS)}, found {', '.join(sorted(unknown))}")
    return chosen


@click.command(short_help="Hold a bundle against its artifact on the whole evaluation split.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--simulation", type=click.Path(path_type=Path), help="Results of `ti-qat simulate`, to compare every code with."
)
@click.option("--threads", callback=_thread_counts, default="1,2", show_default=True, help="Thread counts.")
@click.option("--isa", "isas", callback=_isas, help="Instruction sets, as in scalar,avx2 (default: all supported).")
@_json
def verify(
    artifact: Path,
    bundle: Path,
    simulation: Path | None,
    threads: tuple[int, ...],
    isas: tuple[str, ...] | None,
    as_json: bool,
) -> None:
    """Run the evaluation split on every instruction set and thread count and compare bit by bit.

    Exits with 1 if bits differ where they must not.

    \b
    Example:
      ti-qat verify runs/movie_reviews/artifact runs/movie_reviews/bundle --simulation runs/movie_reviews/simulation
    """
    loaded = io.load(artifact)
    chosen = default_isas(read_bundle(bundle).manifest) if isas is None else isas
    rows = loaded.evaluation.rows * passes(chosen, threads, simulation)
    with click.progressbar(length=rows, label="verify", file=sys.stderr) as bar:
        result = verify_bundle(
            loaded, bundle, simulation_dir=simulation, threads=threads, isas=chosen, on_progress=bar.update
        )
    click.echo(json.dumps(_flat(result)) if as_json else _text(result))
    if not result.as_promised:
        click.echo("ti-qat: verify: bits differ where they must be equal", err=True)
        sys.exit(1)


def _flat(result: Verification) -> dict[str, object]:
    """Return the fields of the verification and, beside them, those of the code comparison."""
    values = asdict(result)
    codes = values.pop("simulation") or {}
    return {
        **values,
        "exact": result.exact,
        "simulated_rows": codes.get("rows"),
        "codes_compared": codes.get("codes_compared"),
        "code_mismatches": codes.get("code_mismatches"),
        "first_divergence": codes.get("first_divergence"),
        "simulated_logits_bit_identical": codes.get("logits_bit_identical"),
        "machine": machine(),
    }


def _text(result: Verification) -> str:
    # ONNX Runtime promises no bits of its own operators, so that different ones are no alarm.
    different = "different" if result.as_promised else "DIFFERENT"

    def told(value: bool | None) -> str:
        return "only one was run" if value is None else "identical" if value else different

    lines = [
        f"{result.rows} rows: {result.metric} {result.score:.4f}, "
        f"{agreement_line(result.label_agreement, result.logits_max_abs_difference)}",
        f"logits over {', '.join(result.isas) or 'standard operators'}: {told(result.isa_bit_identical)}",
        f"logits over {', '.join(map(str, result.threads))} threads: {told(result.threads_bit_identical)}",
    ]
    if result.oracle_max_abs_difference is not None:
        away = "" if result.oracle_bit_identical else f", by at most {result.oracle_max_abs_difference:.2g}"
        lines.append(
            f"logits of {result.oracle_rows} rows and the NumPy oracle's: {told(result.oracle_bit_identical)}{away}"
        )
    if result.simulation is not None:
        codes = result.simulation
        lines.append(
            f"int8 codes and the simulator's: {codes.code_mismatches} of {codes.codes_compared:,} differ; "
            f"logits: {told(codes.logits_bit_identical)}"
        )
        if codes.first_divergence is not None:
            lines.append(f"first at row {codes.first_divergence.row}, {codes.first_divergence.activation}")
    lines.append(
        f"one sequence on one thread: {result.latency_ms:.2f} ms (median of {result.latency_rows}), "
        f"peak memory {result.peak_rss_bytes / 1e6:.0f} MB, bundle {result.bundle_bytes / 1e6:.2f} MB"
    )
    return "\n".join(lines)
