"""Widths and methods of the fixed profile: the table `[fixed]` of an accelerator's file."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Approximation(StrEnum):
    """How a non-linear unit comes by its function."""

    POLYNOMIAL = "polynomial"
    TABLE = "table"


class Rounding(StrEnum):
    """Where a rounding shift sends a value that lies halfway between two codes."""

    HALF_EVEN = "half_even"
    HALF_AWAY = "half_away"


class FixedWidths(BaseModel):
    """Widths in bits with the sign. docs/accelerator.md tells what each is the width of.

    The upper ends keep every intermediate below 2**62; the units prove it where they multiply.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    residual_bits: Annotated[int, Field(ge=8, le=20)] = 16
    activation_bits: Annotated[int, Field(ge=8, le=20)] = 16
    layer_norm_bits: Annotated[int, Field(ge=12, le=24)] = 22
    softmax_bits: Annotated[int, Field(ge=12, le=24)] = 20
    gelu_bits: Annotated[int, Field(ge=12, le=24)] = 20
    multiplier_bits: Annotated[int, Field(ge=6, le=32)] = 16
    table_entries: Annotated[int, Field(ge=16, le=256)] = 256
    exponential: Approximation = Approximation.POLYNOMIAL
    gelu: Approximation = Approximation.TABLE
    rounding: Rounding = Rounding.HALF_EVEN
    calibration_rows: Annotated[int, Field(ge=1, le=1 << 20)] = 32
    calibration_margin_bits: Annotated[int, Field(ge=0, le=8)] = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.table_entries & (self.table_entries - 1):
            raise ValueError(f"table_entries ({self.table_entries}) is no power of two, its index no bit field")
        if self.layer_norm_bits < self.residual_bits + 1:
            raise ValueError(
                f"layer_norm_bits ({self.layer_norm_bits}) below what a centred value needs ({self.residual_bits + 1})"
            )
        return self

    @property
    def half_even(self) -> bool:
        """Whether ties go to even."""
        return self.rounding is Rounding.HALF_EVEN
