// Ternary codes at 1.6 bits: five digits code + 1 of base 3 a byte, the first in the lowest place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ti_qat {

constexpr size_t kBase3CodesPerByte = 5;
constexpr uint8_t kBase3LegalBytes = 243;  // 3^5; bytes from here on hold no codes

// The first of `count` bytes that holds no codes, or `count`.
size_t first_illegal_base3(const uint8_t* bytes, size_t count);

// Whether the last of the bytes that hold `codes` codes is padded with code 0.
bool base3_padding_is_zero(const uint8_t* bytes, size_t codes);

// From (ceil(codes / 5)) bytes to two_bit (ceil(codes / 4)): code + 1 in two bits each, low bits first.
void unpack_base3(const uint8_t* bytes, size_t codes, uint8_t* two_bit);

}  // namespace ti_qat
