"""What memory holds, level by level and class by class: what stays, what is there at most, what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from hwsim.config import Accelerator
from hwsim.schedule.execution import Inference, PlannedOperation
from hwsim.schedule.memory import WeightFormat, parameter_bytes, stationary_bytes, table_names
from hwsim.schedule.pipeline import leaves
from hwsim.schedule.placement import Placement
from ti_qat.artifact.encoder import Encoder, OpKind


class TensorClass(StrEnum):
    """Kinds of tensors that are told apart."""

    TERNARY_LINEARS = "ternary_linears"
    WORD_EMBEDDING = "word_embedding"
    OTHER_PARAMETERS = "other_parameters"
    WEIGHT_TILES = "weight_tiles"
    INT8_ACTIVATIONS = "int8_activations"
    FLOAT32_ACTIVATIONS = "float32_activations"
    FIXED_POINT_ACTIVATIONS = "fixed_point_activations"
    INT32_INPUTS = "int32_inputs"
    STAGING = "partial_sums_and_staging"


_ACTIVATIONS = {
    "int8": TensorClass.INT8_ACTIVATIONS,
    "float32": TensorClass.FLOAT32_ACTIVATIONS,
    "int16": TensorClass.FIXED_POINT_ACTIVATIONS,
    "int32": TensorClass.FIXED_POINT_ACTIVATIONS,
}
Level = dict[str, int]


class FormatFootprint(BaseModel):
    """Bytes of the parameters with ternary weights in one format, every row padded to a whole byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ternary_linear_bytes: int
    word_embedding_bytes: int
    weight_buffer_bytes_needed: int
    weights_fit: bool


class Memory(BaseModel):
    """Bytes that the parameters take and that the longest sentence needs.

    `resident_bytes` and `peak_bytes` are by level, then by class of tensor: what stays from one
    inference to the next, and what is there at the moment when the level is fullest.
    `spilled_activations` are bytes in DRAM by activation, `streamed_parameters` bytes read from DRAM at
    every inference by parameter; `formats` by bits a weight, the accelerator's own being 2.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameter_bytes: int
    ternary_linear_bytes: int
    ternary_linear_weights: int
    bits_per_linear_weight: float
    word_embedding_bytes: int
    other_parameter_bytes: int
    weights_resident: bool
    activation_peak_bytes: int
    activations_fit: bool
    activation_spilled_bytes: int
    resident_bytes: dict[str, Level]
    peak_bytes: dict[str, Level]
    spilled_activations: dict[str, int]
    streamed_parameters: dict[str, int]
    formats: dict[str, FormatFootprint]
    traffic_bytes_per_inference: dict[str, float]


def footprint(
    inference: Inference,
    accelerator: Accelerator,
    planned: tuple[PlannedOperation, ...],
    placement: Placement,
    traffic: dict[str, float],
) -> Memory:
    """Return what memory holds for one inference, as it was planned."""
    encoder = inference.encoder
    linears = encoder.of_kind(OpKind.TERNARY_LINEAR)
    by_class = _parameters(encoder)
    linear_bytes = sum(
        parameter_bytes(encoder, op.inputs[role]) for op in linears for role in ("weight_codes", "weight_scale")
    )
    words = sum(parameter_bytes(encoder, n) for n in by_class[TensorClass.WORD_EMBEDDING])
    everything = sum(parameter_bytes(encoder, name) for name in encoder.parameters)
    weights = sum(int(k) * int(n) for n, k in (encoder.parameters[op.inputs["weight_codes"]].shape for op in linears))
    resident = inference.stationary_bytes <= accelerator.weight_buffer_bytes
    tables = table_names(encoder)
    streamed = {} if resident else {n: parameter_bytes(encoder, n) for n in encoder.parameters if n not in tables}
    in_buffer, in_dram = _activation_levels(inference, placement)
    stays = _resident(encoder, by_class, resident)
    tiles = {TensorClass.WEIGHT_TILES.value: _weight_tiles(planned)}
    return Memory(
        parameter_bytes=everything,
        ternary_linear_bytes=linear_bytes,
        ternary_linear_weights=weights,
        bits_per_linear_weight=8 * linear_bytes / weights,
        word_embedding_bytes=words,
        other_parameter_bytes=everything - linear_bytes - words,
        weights_resident=resident,
        activation_peak_bytes=max(inference.activations.live),
        activations_fit=not placement.in_dram,
        activation_spilled_bytes=sum(placement.in_dram.values()),
        resident_bytes=stays,
        peak_bytes={
            "weight_buffer": stays["weight_buffer"] | tiles,
            "activation_buffer": in_buffer,
            "dram": stays["dram"] | in_dram,
        },
        spilled_activations=dict(placement.in_dram),
        streamed_parameters=streamed,
        formats={stored_as.value: _format(encoder, stored_as, accelerator) for stored_as in WeightFormat},
        traffic_bytes_per_inference=traffic,
    )


def _parameters(encoder: Encoder) -> Mapping[TensorClass, list[str]]:
    linears = [op.inputs[r] for op in encoder.of_kind(OpKind.TERNARY_LINEAR) for r in ("weight_codes", "weight_scale")]
    words = [op.inputs[r] for op in encoder.of_kind(OpKind.EMBEDDING) for r in ("word_codes", "word_scale")]
    known = {*linears, *words}
    others = [name for name in encoder.parameters if name not in known]
    return {
        TensorClass.TERNARY_LINEARS: linears,
        TensorClass.WORD_EMBEDDING: words,
        TensorClass.OTHER_PARAMETERS: others,
    }


def _resident(encoder: Encoder, by_class: Mapping[TensorClass, list[str]], resident: bool) -> dict[str, Level]:
    tables = table_names(encoder)

    def held(in_buffer: bool) -> Level:
        return {
            kind.value: sum(
                parameter_bytes(encoder, name) for name in names if (resident and name not in tables) is in_buffer
            )
            for kind, names in by_class.items()
        }

    return {"weight_buffer": held(True), "activation_buffer": {}, "dram": held(False)}


def _weight_tiles(planned: Iterable[PlannedOperation]) -> int:
    """Return the most bytes that two tiles in a row hold of what came from DRAM."""
    sizes = [tile.weight_bytes for op in planned for tile in leaves(op.body, at_most=2) if tile.weight_bytes]
    return max((a + b for a, b in pairwise([0, *sizes])), default=0)


def _activation_levels(inference: Inference, placement: Placement) -> tuple[Level, Level]:
    """Return the classes in the activation buffer and in DRAM, each when it is fullest."""
    encoder, lives = inference.encoder, inference.activations.lives

    def kind(name: str) -> str:
        given = name in encoder.graph_inputs
        return (TensorClass.INT32_INPUTS if given else _ACTIVATIONS[encoder.activations[name].dtype]).value

    def at(index: int, bytes_of: Mapping[str, int]) -> Counter[str]:
        held: Counter[str] = Counter()
        for name, bytes_ in bytes_of.items():
            if lives[name][0] <= index <= lives[name][-1]:
                held[kind(name)] += bytes_
        return held

    kept = {name: size - placement.in_dram.get(name, 0) for name, size in inference.activations.sizes.items()}
    fullest = max(range(len(placement.in_buffer)), key=placement.in_buffer.__getitem__)
    in_buffer = at(fullest, kept)
    in_buffer[TensorClass.STAGING.value] = placement.in_buffer[fullest] - sum(in_buffer.values())
    spilled: Counter[str] = Counter()
    for index in range(len(placement.in_buffer)) if placement.in_dram else ():
        spilled = max(spilled, at(index, placement.in_dram), key=lambda held: sum(held.values()))
    return dict(in_buffer), dict(spilled)


def _format(encoder: Encoder, stored_as: WeightFormat, accelerator: Accelerator) -> FormatFootprint:
    def stored(kind: OpKind, roles: tuple[str, ...]) -> int:
        return sum(parameter_bytes(encoder, op.inputs[r], stored_as) for op in encoder.of_kind(kind) for r in roles)

    needed = stationary_bytes(encoder, stored_as)
    return FormatFootprint(
        ternary_linear_bytes=stored(OpKind.TERNARY_LINEAR, ("weight_codes", "weight_scale")),
        word_embedding_bytes=stored(OpKind.EMBEDDING, ("word_codes", "word_scale")),
        weight_buffer_bytes_needed=needed,
        weights_fit=needed <= accelerator.weight_buffer_bytes,
    )
