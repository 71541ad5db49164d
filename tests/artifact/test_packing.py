from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ti_qat.artifact.packing import PackingError, pack_ternary, packed_width, unpack_ternary

CODES = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=11), elements=st.integers(-1, 1))


def test_the_first_code_takes_the_lowest_bits() -> None:
    packed = pack_ternary(np.array([[-1, 0, 1, 1, -1]], np.int8))
    assert packed.tolist() == [[0b10_10_01_00, 0b01_01_01_00]]


def test_every_byte_unpacks_and_packs_back_or_is_refused() -> None:
    for byte in range(256):
        packed = np.array([[byte]], np.uint8)
        if any((byte >> shift) & 3 == 3 for shift in (0, 2, 4, 6)):
            with pytest.raises(PackingError, match="0b11"):
                unpack_ternary(packed, 4)
        else:
            assert pack_ternary(unpack_ternary(packed, 4)).item() == byte


@given(CODES)
def test_a_round_trip_keeps_the_codes(codes: np.ndarray) -> None:
    packed = pack_ternary(codes)
    assert packed.shape == (codes.shape[0], packed_width(codes.shape[1]))
    np.testing.assert_array_equal(unpack_ternary(packed, codes.shape[1]), codes)


def test_the_forbidden_field_is_located() -> None:
    packed = pack_ternary(np.zeros((3, 9), np.int8))
    packed[2, 1] |= 0b11_00
    with pytest.raises(PackingError, match="row 2, code 5"):
        unpack_ternary(packed, 9)


def test_padding_other_than_zero_is_refused() -> None:
    packed = pack_ternary(np.zeros((1, 5), np.int8))
    packed[0, 1] ^= 0b01_00
    with pytest.raises(PackingError, match="code 5: found padding"):
        unpack_ternary(packed, 5)


@pytest.mark.parametrize(
    "codes",
    [np.full((2, 2), 2, np.int8), np.full((2, 2), -2, np.int8), np.zeros(3, np.int8), np.zeros((2, 2), np.int32)],
)
def test_what_is_no_ternary_matrix_is_refused(codes: np.ndarray) -> None:
    with pytest.raises(PackingError):
        pack_ternary(codes)


def test_a_wrong_width_is_refused() -> None:
    with pytest.raises(PackingError, match="expected 3 bytes"):
        unpack_ternary(np.full((2, 2), 0b01010101, np.uint8), 9)
