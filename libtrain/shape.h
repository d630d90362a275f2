/// Sizes of a tensor's dimensions, outermost first.
#pragma once
#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <string>

#include "libtrain/error.h"

namespace libtrain {

/// Up to six non-negative dimensions; a scalar has none.
class Shape {
 public:
  static constexpr int kMaxRank = 6;  // the most dimensions

  Shape() = default;
  /// Throws InvalidArgument for more than kMaxRank dimensions, a negative size, or a product beyond 63 bits.
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  /// Number of dimensions.
  int rank() const { return rank_; }
  /// Size of dimension i; negative i counts from the end.
  int64_t operator[](int i) const;
  /// Number of elements.
  int64_t numel() const;
  /// All sizes, outermost first; valid while this shape lives.
  std::span<const int64_t> dims() const { return {dims_.data(), size_t(rank_)}; }
  /// Product of all dimensions but the last: the number of rows of the matrix [rows, last].
  int64_t rows() const;
  /// The same shape with its last dimension replaced.
  Shape with_last(int64_t size) const;
  /// "[2, 3]"
  std::string str() const;

  /// Same rank and same sizes.
  bool operator==(const Shape& other) const { return std::ranges::equal(dims(), other.dims()); }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// ---------------------------------------------------------------------------------------------------------------------

inline Shape::Shape(std::span<const int64_t> dims) : rank_(int(dims.size())) {
  LIBTRAIN_CHECK(rank_ <= kMaxRank, "[shape] expected at most {} dimensions, got {}; merge some into one", kMaxRank,
                 rank_);
  std::ranges::copy(dims, dims_.begin());
  int64_t total = 1;
  for (const int64_t size : dims)
    LIBTRAIN_CHECK(size >= 0 && !__builtin_mul_overflow(total, std::max<int64_t>(size, 1), &total),
                   "[shape] expected sizes >= 0 whose product fits 63 bits, got {}; one of them was worked out wrongly",
                   str());
}

inline int64_t Shape::operator[](int i) const {
  const int index = i < 0 ? i + rank_ : i;
  LIBTRAIN_CHECK(index >= 0 && index < rank_,
                 "[shape] dimension {} of {}, which has {}; they count from 0, or back from -1", i, str(), rank_);
  return dims_[size_t(index)];
}

inline int64_t Shape::numel() const {
  int64_t total = 1;
  for (const int64_t size : dims()) total *= size;
  return total;
}

inline int64_t Shape::rows() const {
  int64_t total = 1;
  for (int i = 0; i + 1 < rank_; ++i) total *= dims_[size_t(i)];
  return total;
}

inline Shape Shape::with_last(int64_t size) const {
  LIBTRAIN_CHECK(rank_ > 0, "[shape] a scalar has no last dimension to replace by {}; reshape() it to [1] first", size);
  std::array<int64_t, kMaxRank> sizes = dims_;
  sizes[size_t(rank_ - 1)] = size;
  return Shape(std::span<const int64_t>(sizes.data(), size_t(rank_)));
}

inline std::string Shape::str() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(dims_[size_t(i)]);
  return text + "]";
}

namespace detail {

/// "row 3, position 2" for element i of ids [rows, positions], "position 17" for a vector.
inline std::string place_of(const Shape& shape, int64_t i) {
  if (shape.rank() < 2) return format_message("position {}", i);
  return format_message("row {}, position {}", i / shape[-1], i % shape[-1]);
}

}  // namespace detail

}  // namespace libtrain
