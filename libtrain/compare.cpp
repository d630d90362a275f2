#include "libtrain/compare.h"

#include <cmath>
#include <limits>

namespace libtrain {
namespace {

std::vector<double> host_values(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::i32: {
      const auto values = tensor.to_vector<int32_t>();
      return {values.begin(), values.end()};
    }
    case DType::i64: {
      const auto values = tensor.to_vector<int64_t>();
      return {values.begin(), values.end()};
    }
    default:
      return tensor.detach().cast(DType::f64).to_vector<double>();
  }
}

/// By how much the pair is beyond what is allowed; at most 0 where it is not.
double excess(double a, double b, const Tolerance& tolerance) {
  if (a == b || (tolerance.equal_nan && std::isnan(a) && std::isnan(b))) return 0;
  const double beyond = std::fabs(a - b) - (tolerance.absolute + tolerance.relative * std::fabs(b));
  return std::isfinite(beyond) ? beyond : std::numeric_limits<double>::infinity();
}

std::string index_text(const Shape& shape, int64_t element) {
  std::string text = "]";
  for (int i = shape.rank(); i-- > 0; element /= shape[i])
    text = (i ? ", " : "") + std::to_string(element % shape[i]) + text;
  return "[" + text;
}

}  // namespace

std::string difference(const Tensor& a, const Tensor& b, const Tolerance& tolerance) {
  if (a.shape() != b.shape()) return format_message("shapes differ: {} and {}", a.spec(), b.spec());
  const auto left = host_values(a), right = host_values(b);
  size_t worst = 0, count = 0;
  double furthest = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    const double beyond = excess(left[i], right[i], tolerance);
    count += beyond > 0;
    if (beyond > furthest) furthest = beyond, worst = i;
  }
  if (count == 0) return "";
  return format_message("{}: {} and {} differ by {:.3g}, {:.3g} allowed; so do {} of {} elements",
                        index_text(a.shape(), int64_t(worst)), left[worst], right[worst],
                        std::fabs(left[worst] - right[worst]),
                        tolerance.absolute + tolerance.relative * std::fabs(right[worst]), count, left.size());
}

}  // namespace libtrain
