/// CUDA's short vector types and dim3, with the alignment that CUDA gives them.
#pragma once
#include <cstdint>

namespace libtrain::kernels {

#define LIBTRAIN_VECTOR_TYPES(T, name)                                  \
  struct alignas(2 * sizeof(T)) name##2 {                               \
    T x, y;                                                             \
  };                                                                    \
  struct name##3 {                                                      \
    T x, y, z;                                                          \
  };                                                                    \
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) name##4 {          \
    T x, y, z, w;                                                       \
  };                                                                    \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

LIBTRAIN_VECTOR_TYPES(signed char, char)
LIBTRAIN_VECTOR_TYPES(unsigned char, uchar)
LIBTRAIN_VECTOR_TYPES(short, short)
LIBTRAIN_VECTOR_TYPES(unsigned short, ushort)
LIBTRAIN_VECTOR_TYPES(int, int)
LIBTRAIN_VECTOR_TYPES(unsigned, uint)
LIBTRAIN_VECTOR_TYPES(long long, longlong)
LIBTRAIN_VECTOR_TYPES(unsigned long long, ulonglong)
LIBTRAIN_VECTOR_TYPES(float, float)
LIBTRAIN_VECTOR_TYPES(double, double)
#undef LIBTRAIN_VECTOR_TYPES

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr uint64_t count() const { return uint64_t(x) * y * z; }
};

}  // namespace libtrain::kernels
