// The dot product of int8 codes on registers, with enough independent sums to keep every unit busy: what an
// instruction set can do at most, if it multiplies. Included only by kernel_table.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// A register of the kind that holds codes, in the words of an assembler constraint.
#if defined(TI_QAT_PLAIN)
#define TI_QAT_REGISTER "r"
#elif defined(__ARM_NEON)
#define TI_QAT_REGISTER "w"
#else
#define TI_QAT_REGISTER "v"
#endif

namespace ti_qat {
namespace {

#if defined(TI_QAT_PLAIN)
using Sums = uint32_t;
using Codes = uint32_t;
constexpr size_t kSums = 8, kMacsPerDot = 1;
inline Codes ones() {
  return 1;
}
inline Sums dot(Sums sums, Codes w, Codes x) {
  return sums + w * x;
}
#elif defined(__AVX512VNNI__)
using Sums = __m512i;
using Codes = __m512i;
constexpr size_t kSums = 24, kMacsPerDot = 64;
inline Codes ones() {
  return _mm512_set1_epi8(1);
}
inline Sums dot(Sums sums, Codes w, Codes x) {
  return _mm512_dpbusd_epi32(sums, w, x);
}
#elif defined(__AVXVNNI__)
using Sums = __m256i;
using Codes = __m256i;
constexpr size_t kSums = 12, kMacsPerDot = 32;
inline Codes ones() {
  return _mm256_set1_epi8(1);
}
inline Sums dot(Sums sums, Codes w, Codes x) {
  return _mm256_dpbusd_avx_epi32(sums, w, x);
}
#elif defined(__AVX2__)
using Sums = __m256i;
using Codes = __m256i;
constexpr size_t kSums = 12, kMacsPerDot = 32;
inline Codes ones() {
  return _mm256_set1_epi8(1);
}
inline Sums dot(Sums sums, Codes w, Codes x) {
  return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
#elif defined(__SSE4_1__)
using Sums = __m128i;
using Codes = __m128i;
constexpr size_t kSums = 12, kMacsPerDot = 16;
inline Codes ones() {
  return _mm_set1_epi8(1);
}
inline Sums dot(Sums sums, Codes w, Codes x) {
  return _mm_add_epi32(sums, _mm_madd_epi16(_mm_maddubs_epi16(w, x), _mm_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
using Sums = int32x4_t;
using Codes = int8x16_t;
constexpr size_t kSums = 24, kMacsPerDot = 16;
inline Codes ones() {
  return vdupq_n_s8(1);
}
inline Sums dot(Sums sums, Codes w, Codes x) {
  return vdotq_s32(sums, w, x);
}
#elif defined(__ARM_NEON)
using Sums = int32x4_t;
using Codes = int8x16_t;
constexpr size_t kSums = 16, kMacsPerDot = 16;
inline Codes ones() {
  return vdupq_n_s8(1);
}
inline Sums dot(Sums sums, Codes w, Codes x) {
  return vpadalq_s16(sums, vmlal_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vget_high_s8(w), vget_high_s8(x)));
}
#endif

// Multiplies and adds for `rounds` rounds; returns how many multiply-accumulates that was.
inline uint64_t int8_dots(uint64_t rounds) {
  Codes w = ones(), x = ones();
  __asm__ volatile("" : "+" TI_QAT_REGISTER(x));  // unknown: a product with one would be left out
  Sums sums[kSums] = {};
  for (uint64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
    for (size_t i = 0; i < kSums; ++i) {
      // Changed, as far as the compiler knows: or the product would be taken out of the loop.
      __asm__ volatile("" : "+" TI_QAT_REGISTER(w));
      sums[i] = dot(sums[i], w, x);
    }
  }
#pragma GCC unroll 24
  for (size_t i = 0; i < kSums; ++i) {
    // Read, as far as the compiler knows: or the loop would be removed.
    __asm__ volatile("" : : TI_QAT_REGISTER(sums[i]));
  }
  return rounds * kSums * kMacsPerDot;
}

}  // namespace
}  // namespace ti_qat
