#include "kernels/base3_codes.h"

#include <array>

namespace ti_qat {
namespace {

constexpr size_t kBitsPerByte = 8;
constexpr size_t kBitsPerCode = 2;
constexpr size_t kTableEntries = 256;

// The five digits of every legal byte in two bits each; the entries of others are never used for codes.
constexpr std::array<uint16_t, kTableEntries> two_bit_digits() {
  std::array<uint16_t, kTableEntries> table = {};
  for (unsigned byte = 0; byte < kBase3LegalBytes; ++byte) {
    unsigned rest = byte, digits = 0;
    for (unsigned i = 0; i < kBase3CodesPerByte; ++i, rest /= 3) digits |= (rest % 3) << (kBitsPerCode * i);
    table[byte] = static_cast<uint16_t>(digits);
  }
  return table;
}

constexpr std::array<uint16_t, kTableEntries> kTwoBitDigits = two_bit_digits();

}  // namespace

size_t first_illegal_base3(const uint8_t* bytes, size_t count) {
  // The maximum first: a loop without an exit vectorises.
  uint8_t largest = 0;
  for (size_t i = 0; i < count; ++i) largest = bytes[i] > largest ? bytes[i] : largest;
  if (largest < kBase3LegalBytes) return count;
  size_t at = 0;
  while (bytes[at] < kBase3LegalBytes) ++at;
  return at;
}

bool base3_padding_is_zero(const uint8_t* bytes, size_t codes) {
  const size_t used = codes % kBase3CodesPerByte;
  if (used == 0) return true;
  unsigned digits = kTwoBitDigits[bytes[codes / kBase3CodesPerByte]] >> (kBitsPerCode * used);
  for (size_t i = used; i < kBase3CodesPerByte; ++i, digits >>= kBitsPerCode) {
    if ((digits & 3u) != 1u) return false;
  }
  return true;
}

void unpack_base3(const uint8_t* bytes, size_t codes, uint8_t* two_bit) {
  const uint8_t* const end = bytes + (codes + kBase3CodesPerByte - 1) / kBase3CodesPerByte;
  uint64_t bits = 0;
  size_t held = 0;
  for (size_t i = 0; i < (codes + 3) / 4; ++i) {
    while (held < kBitsPerByte && bytes < end) {
      bits |= uint64_t{kTwoBitDigits[*bytes++]} << held;
      held += kBitsPerCode * kBase3CodesPerByte;
    }
    two_bit[i] = static_cast<uint8_t>(bits);
    bits >>= kBitsPerByte;
    held = held < kBitsPerByte ? 0 : held - kBitsPerByte;
  }
}

}  // namespace ti_qat
