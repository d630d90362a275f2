/// Element types of tensors and the arithmetic type that goes with each.
#pragma once
#include <bit>
#include <cstdint>

#include "kernels/view.h"

namespace libtrain {

enum class DType : uint8_t { f32, bf16, f64, i32, i64 };

/// bfloat16: the upper half of a float. Storage only; arithmetic happens in float. Conversion rounds to nearest even, keeps NaN.
struct bf16 {
  uint16_t bits;

  bf16() = default;
  LIBTRAIN_HOST_DEVICE explicit bf16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    bits = uint16_t((u & 0x7FFFFFFFu) > 0x7F800000u ? (u >> 16) | 0x40u : rounded);
  }
  LIBTRAIN_HOST_DEVICE operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};

namespace detail {
template <class T> struct Accum { using type = float; };
template <> struct Accum<double> { using type = double; };
}  // namespace detail
/// Type of statistics, sums, losses and parameter gradients: f32 for f32 and bf16, f64 for f64.
template <class T> using accum_t = typename detail::Accum<T>::type;

template <class T> inline constexpr DType dtype_of = DType::f32;
template <> inline constexpr DType dtype_of<bf16> = DType::bf16;
template <> inline constexpr DType dtype_of<double> = DType::f64;
template <> inline constexpr DType dtype_of<int32_t> = DType::i32;
template <> inline constexpr DType dtype_of<int64_t> = DType::i64;

/// Bytes of one element.
constexpr int64_t size_of(DType dtype) {
  constexpr int64_t kSizes[] = {4, 2, 8, 4, 8};
  return kSizes[int(dtype)];
}
constexpr const char* name(DType dtype) {
  constexpr const char* kNames[] = {"f32", "bf16", "f64", "i32", "i64"};
  return kNames[int(dtype)];
}
constexpr bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f64; }
/// dtype of accum_t<T>.
constexpr DType accum_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace libtrain
