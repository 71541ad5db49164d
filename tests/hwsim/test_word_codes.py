"""Parity and the Hsiao code: every flip of one and two bits of a word, and what three do."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from hwsim.faults.hsiao import HsiaoCode
from hwsim.faults.word_codes import CORRECTED, DETECTED, UNCHANGED, Parity, Unprotected

WIDTHS = [4, 8, 16, 24, 32, 64]
SIZES = {4: 4, 8: 5, 16: 6, 32: 7, 64: 8}  # check bits of the extended Hamming codes of these widths, which are optimal


def words(data_bits: int, count: int) -> np.ndarray:
    """Random words, and the two of equal bits."""
    mask = np.uint64((1 << data_bits) - 1)
    found = np.random.default_rng(data_bits).integers(0, 1 << 64, count, np.uint64, endpoint=False) & mask
    found[:2] = np.uint64(0), mask
    return found


def flipped(code: HsiaoCode | Parity, data: np.ndarray, bits: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return data and check bits of codewords, with `bits` of each flipped; the check bits follow the data."""
    pattern = sum(1 << bit for bit in bits)
    in_data, in_check = pattern & ((1 << code.data_bits) - 1), pattern >> code.data_bits
    return data ^ np.uint64(in_data), code.encode(data) ^ np.uint64(in_check)


@pytest.mark.parametrize("data_bits", WIDTHS)
def test_every_single_flip_is_corrected_and_a_word_without_one_left_alone(data_bits: int) -> None:
    code, data = HsiaoCode(data_bits), words(data_bits, 16)
    read, verdicts = code.decode(data, code.encode(data))
    assert np.array_equal(read, data)
    assert set(verdicts) == {UNCHANGED}
    for bit in range(code.data_bits + code.check_bits):
        read, verdicts = code.decode(*flipped(code, data, (bit,)))
        assert np.array_equal(read, data), bit
        assert set(verdicts) == {CORRECTED}, bit


@pytest.mark.parametrize("data_bits", WIDTHS)
def test_every_double_flip_is_detected(data_bits: int) -> None:
    code, data = HsiaoCode(data_bits), words(data_bits, 4)
    for bits in combinations(range(code.data_bits + code.check_bits), 2):
        _, verdicts = code.decode(*flipped(code, data, bits))
        assert set(verdicts) == {DETECTED}, bits


def test_a_triple_flip_is_detected_or_miscorrected_and_never_taken_for_a_good_word() -> None:
    code, zero = HsiaoCode(64), np.zeros(1, np.uint64)
    triples = list(combinations(range(72), 3))
    read = [code.decode(*flipped(code, zero, bits)) for bits in triples]
    verdicts = np.array([found[1][0] for found in read])
    assert set(verdicts) == {CORRECTED, DETECTED}
    # Odd columns only: three flips look like one where their sum is a column, which 72 of the 128 odd syndromes are.
    assert np.mean(verdicts == CORRECTED) == pytest.approx(72 / 128, abs=0.02)
    wrong = [int(data[0]) != 0 for (data, _), verdict in zip(read, verdicts, strict=True) if verdict == CORRECTED]
    assert all(wrong)  # one repaired bit cannot put three right


def test_the_code_of_64_bits_is_hsiaos_size() -> None:
    """Hsiao 1970: (72, 64) takes 216 ones, 27 in each row of the parity-check matrix, the identity counted."""
    code = HsiaoCode(64)
    rows = [sum(column >> row & 1 for column in code.columns) + 1 for row in range(code.check_bits)]
    assert (code.check_bits, sum(rows), set(rows)) == (8, 216, {27})
    assert {bits: HsiaoCode(bits).check_bits for bits in SIZES} == SIZES


@pytest.mark.parametrize("make", [HsiaoCode, Parity, Unprotected])
def test_codes_are_linear_so_flips_alone_decide(make) -> None:
    """What draws upsets on words of zeros relies on."""
    code, data = make(64), words(64, 400)
    random = np.random.default_rng(5)
    flips = np.zeros((2, 400), np.uint64)
    for word in range(400):
        for bit in random.choice(64 + code.check_bits, word % 5, replace=False):
            flips[int(bit >= 64), word] ^= np.uint64(1 << (int(bit) % 64))
    read, verdicts = code.decode(data ^ flips[0], code.encode(data) ^ flips[1])
    of_zeros, verdicts_of_zeros = code.decode(*flips)
    assert np.array_equal(read, data ^ of_zeros)
    assert np.array_equal(verdicts, verdicts_of_zeros)


def test_parity_sees_odd_flips_and_misses_even_ones() -> None:
    code, data = Parity(64), words(64, 8)
    for bits, verdict in (((), UNCHANGED), ((3,), DETECTED), ((64,), DETECTED), ((0, 63), UNCHANGED),
                          ((0, 64), UNCHANGED), ((1, 2, 3), DETECTED)):  # fmt: skip
        read, verdicts = code.decode(*flipped(code, data, bits))
        assert set(verdicts) == {verdict}, bits
        assert np.array_equal(read, flipped(code, data, bits)[0])


def test_gates_are_those_of_the_trees() -> None:
    parity, hsiao = Parity(64).gates, HsiaoCode(64).gates
    assert (parity.encoder_xor2, parity.decoder_xor2, parity.decoder_and2) == (63, 64, 0)
    # 8 trees of 26 inputs; 8 more inputs to read; 64 repairs, each where 8 syndrome bits fit; the alarm.
    assert (hsiao.encoder_xor2, hsiao.decoder_xor2, hsiao.decoder_and2) == (200, 200 + 8 + 64 + 7, 64 * 7 + 8)
    assert Unprotected(64).gates.encoder_xor2 == 0
