from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ti_qat.artifact.packing import (
    FIVE_TRITS,
    PACKINGS,
    TWO_BITS,
    Packing,
    PackingError,
    pack_ternary,
    packed_width,
    unpack_ternary,
)

CODES = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=11), elements=st.integers(-1, 1))
each_packing = pytest.mark.parametrize("packing", PACKINGS, ids=lambda packing: f"{packing.weight_bits} bits")


def _every_row_of(width: int) -> np.ndarray:
    """All 3**width rows of ternary codes."""
    return (np.arange(3**width)[:, None] // 3 ** np.arange(width) % 3 - 1).astype(np.int8)


def test_the_first_code_takes_the_lowest_bits() -> None:
    packed = pack_ternary(np.array([[-1, 0, 1, 1, -1]], np.int8))
    assert packed.tolist() == [[0b10_10_01_00, 0b01_01_01_00]]


def test_the_first_of_five_trits_is_the_least_significant() -> None:
    packed = pack_ternary(np.array([[-1, 0, 1, 1, -1, 1]], np.int8), FIVE_TRITS)
    assert packed.tolist() == [[0 + 1 * 3 + 2 * 9 + 2 * 27 + 0 * 81, 2 + 1 * 3 + 1 * 9 + 1 * 27 + 1 * 81]]


def test_every_byte_unpacks_and_packs_back_or_is_refused() -> None:
    for byte in range(256):
        packed = np.array([[byte]], np.uint8)
        if any((byte >> shift) & 3 == 3 for shift in (0, 2, 4, 6)):
            with pytest.raises(PackingError, match="0b11"):
                unpack_ternary(packed, 4)
        else:
            assert pack_ternary(unpack_ternary(packed, 4)).item() == byte


def test_the_243_legal_bytes_of_five_trits_are_all_rows_of_five_codes_and_the_others_are_refused() -> None:
    legal = np.arange(243, dtype=np.uint8)[:, None]
    codes = unpack_ternary(legal, 5, FIVE_TRITS)
    np.testing.assert_array_equal(codes, _every_row_of(5))
    np.testing.assert_array_equal(pack_ternary(codes, FIVE_TRITS), legal)
    for byte in range(243, 256):
        with pytest.raises(PackingError, match="row 0, code 5: found a byte of 243 or more"):
            unpack_ternary(np.array([[121, byte]], np.uint8), 7, FIVE_TRITS)


@each_packing
@pytest.mark.parametrize("width", range(1, 12))
def test_every_row_of_up_to_eleven_codes_makes_the_round_trip(packing: Packing, width: int) -> None:
    codes = _every_row_of(width)
    packed = pack_ternary(codes, packing)
    assert packed.shape == (3**width, -(-width // packing.codes_per_byte))
    assert len(np.unique(packed, axis=0)) == 3**width
    np.testing.assert_array_equal(unpack_ternary(packed, width, packing), codes)


@each_packing
@pytest.mark.parametrize("width", range(1, 12))
def test_any_other_padding_of_a_row_is_refused(packing: Packing, width: int) -> None:
    packed = pack_ternary(np.zeros((2, width), np.int8), packing)
    for place in range(width, packed.shape[1] * packing.codes_per_byte):
        for change in (-1, 1):
            wrong = packed.copy()
            wrong[1, -1] = int(wrong[1, -1]) + change * packing.base ** (place % packing.codes_per_byte)
            with pytest.raises(PackingError, match=f"row 1, code {place}: found padding other than code 0"):
                unpack_ternary(wrong, width, packing)


@given(CODES, st.sampled_from(PACKINGS))
def test_a_round_trip_keeps_the_codes(codes: np.ndarray, packing: Packing) -> None:
    packed = pack_ternary(codes, packing)
    assert packed.shape == (codes.shape[0], packed_width(codes.shape[1], packing))
    np.testing.assert_array_equal(unpack_ternary(packed, codes.shape[1], packing), codes)


def test_a_code_takes_two_bits_or_one_and_six_tenths() -> None:
    assert (TWO_BITS.weight_bits, FIVE_TRITS.weight_bits) == (2.0, 1.6)


def test_the_forbidden_field_is_located() -> None:
    packed = pack_ternary(np.zeros((3, 9), np.int8))
    packed[2, 1] |= 0b11_00
    with pytest.raises(PackingError, match="row 2, code 5"):
        unpack_ternary(packed, 9)


@each_packing
@pytest.mark.parametrize(
    "codes",
    [np.full((2, 2), 2, np.int8), np.full((2, 2), -2, np.int8), np.zeros(3, np.int8), np.zeros((2, 2), np.int32)],
)
def test_what_is_no_ternary_matrix_is_refused(codes: np.ndarray, packing: Packing) -> None:
    with pytest.raises(PackingError):
        pack_ternary(codes, packing)


@pytest.mark.parametrize(("packing", "codes", "expected"), [(TWO_BITS, 9, 3), (FIVE_TRITS, 11, 3)])
def test_a_wrong_width_is_refused(packing: Packing, codes: int, expected: int) -> None:
    with pytest.raises(PackingError, match=f"expected {expected} bytes"):
        unpack_ternary(np.full((2, 2), 0b01010101, np.uint8), codes, packing)
