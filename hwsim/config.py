"""Description of an accelerator: a TOML file, or the name of one that comes with the package."""

from __future__ import annotations

import json
import tomllib
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwsim.errors import SimulatorError, first_problem
from hwsim.units.accumulator import CODE_BITS, AccumulatorRange
from hwsim.widths import FixedWidths

_PRESETS = Path(__file__).parent / "configs"
_MAX_FILE_BYTES = 1 << 20
MIN_ACCUMULATOR_BITS = 4
_TILE_BITS = 2  # a ternary weight

Model = TypeVar("Model", bound=BaseModel)
Bytes = Annotated[int, Field(ge=64, le=1 << 40)]


class Dataflow(StrEnum):
    """Which operand stays in the array while the others stream through."""

    WEIGHT_STATIONARY = "weight_stationary"
    OUTPUT_STATIONARY = "output_stationary"
    INPUT_STATIONARY = "input_stationary"


class Overflow(StrEnum):
    """What an accumulator does beyond its range; every event is counted either way."""

    SATURATE = "saturate"
    WRAP = "wrap"


class Profile(StrEnum):
    """Arithmetic of the datapath: the deployed one, bit for bit, or integers alone."""

    EXACT = "exact"
    FIXED = "fixed"


class Battery(BaseModel):
    """What the accelerator runs from: `usable_fraction` of its charge, at its mean voltage."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    capacity_mah: Annotated[float, Field(gt=0, le=1e7)]
    voltage_v: Annotated[float, Field(gt=0, le=1e3)]
    usable_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def energy_j(self) -> float:
        """Joules of one charge."""
        return self.capacity_mah * 3.6 * self.voltage_v * self.usable_fraction


class ZeroGating(StrEnum):
    """Which zero operands keep an element's product and accumulator from switching."""

    NONE = "none"
    WEIGHTS = "weights"
    WEIGHTS_AND_ACTIVATIONS = "weights_and_activations"


class Accelerator(BaseModel):
    """One design point. Required is what has no default; `fixed` are the widths of the fixed profile.

    Without a number of banks a buffer has as many as never hold the array or the lanes up. `energy_tables` are names
    of tables of the package, and paths, which end in .toml.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1)
    description: str
    array_rows: Annotated[int, Field(ge=1, le=4096)]
    array_columns: Annotated[int, Field(ge=1, le=4096)]
    dataflow: Dataflow
    clock_hz: Annotated[float, Field(gt=0, le=1e11)]
    accumulator_bits: Annotated[int, Field(ge=MIN_ACCUMULATOR_BITS, le=32)]
    accumulator_overflow: Overflow
    weight_buffer_bytes: Bytes
    activation_buffer_bytes: Bytes
    dram_bandwidth_bytes_per_s: Annotated[float, Field(ge=1e3, le=1e14)]
    dram_latency_ns: Annotated[float, Field(ge=0, le=1e6)]
    vector_lanes: Annotated[int, Field(ge=1, le=65536)]
    activation_bits_per_cycle: Literal[1, 8] = 8
    zero_gating: ZeroGating = ZeroGating.NONE
    vector_pipeline_cycles: Annotated[int, Field(ge=0, le=4096)] = 8
    weight_buffer_banks: Annotated[int, Field(ge=1, le=65536)] | None = None
    activation_buffer_banks: Annotated[int, Field(ge=1, le=65536)] | None = None
    bank_ports: Annotated[int, Field(ge=1, le=4)] = 1
    bank_bytes: Annotated[int, Field(ge=1, le=256)] = 8
    energy_tables: tuple[str, ...] = Field(min_length=1)
    fixed: FixedWidths = FixedWidths()
    battery: Battery | None = None

    @model_validator(mode="after")
    def _two_tiles_fit(self) -> Self:
        tile_bytes = -(-self.array_rows * self.array_columns * _TILE_BITS // 8)
        if self.weight_buffer_bytes < 2 * tile_bytes:
            raise ValueError(
                f"weight_buffer_bytes ({self.weight_buffer_bytes}) below two tiles of the array ({2 * tile_bytes})"
            )
        return self

    @model_validator(mode="after")
    def _serial_bits_pass(self) -> Self:
        if self.bit_serial and self.dataflow is Dataflow.INPUT_STATIONARY:
            raise ValueError("activation_bits_per_cycle (1) needs activations that pass, which input_stationary keeps")
        return self

    @property
    def bit_serial(self) -> bool:
        """Whether activations enter the array bit by bit."""
        return self.activation_bits_per_cycle == 1

    @property
    def cycles_per_step(self) -> int:
        """Cycles for which the array takes one activation."""
        return CODE_BITS // self.activation_bits_per_cycle

    @property
    def weight_buffer_bytes_per_cycle(self) -> float:
        """What the weight buffer's ports move in a cycle, read and written together."""
        return (self.weight_buffer_banks or inf) * self.bank_ports * self.bank_bytes

    @property
    def activation_buffer_bytes_per_cycle(self) -> float:
        """What the activation buffer's ports move in a cycle, read and written together."""
        return (self.activation_buffer_banks or inf) * self.bank_ports * self.bank_bytes

    def widths_of(self, profile: Profile) -> FixedWidths | None:
        """Widths of the integer units, or None in the profile without them."""
        return self.fixed if profile is Profile.FIXED else None

    @property
    def accumulator_bytes(self) -> int:
        """Bytes of a partial sum in the activation buffer."""
        return -(-self.accumulator_bits // 8)

    @property
    def accumulator_range(self) -> AccumulatorRange:
        """Range of one accumulator of the array."""
        return AccumulatorRange.of_bits(self.accumulator_bits, wraps=self.accumulator_overflow is Overflow.WRAP)


def preset_names() -> tuple[str, ...]:
    """Return the names of the accelerators that come with the package."""
    return tuple(sorted(file.stem for file in _PRESETS.glob("*.toml")))


def read_accelerator(name_or_file: str) -> Accelerator:
    """Read a preset by name, or a file whose name ends in .toml, with paths in it from its own folder on.

    Raises SimulatorError.
    """
    if name_or_file.endswith(".toml"):
        file = Path(name_or_file)
        read = parse_toml(file, Accelerator)
        tables = [str(file.parent / name) if name.endswith(".toml") else name for name in read.energy_tables]
        return read.model_copy(update={"energy_tables": tuple(tables)})
    if name_or_file not in preset_names():
        expected = f"a .toml file or one of {', '.join(preset_names())}"
        raise SimulatorError("accelerator", "name", expected=expected, found=repr(name_or_file))
    return parse_toml(_PRESETS / f"{name_or_file}.toml", Accelerator)


def parse_toml(file: Path, model: type[Model]) -> Model:
    """Read and validate one TOML file; raise SimulatorError naming the field that is wrong."""
    if not file.is_file():
        raise SimulatorError(file, "file", expected="a TOML file", found="nothing of that name")
    if file.stat().st_size > _MAX_FILE_BYTES:
        raise SimulatorError(file, "size", expected=f"at most {_MAX_FILE_BYTES} bytes", found=str(file.stat().st_size))
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # TOML that is none, is no text, or has numbers without end
        raise SimulatorError(file, "content", expected="TOML", found=str(error)) from error
    try:
        # Through JSON, because strict validation takes an enum's value and a tuple from there only.
        return model.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise first_problem(file, error) from error
