#include "libtrain/error.h"

#include <fmt/args.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

namespace libtrain {
namespace {
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substitute}));
    }
  }
  return row.back();
}

const auto& shown(const auto& value) { return value; }
double shown(const double& value) { return without_sign_of_nan(value); }
}  // namespace

double without_sign_of_nan(double value) { return std::isnan(value) ? std::fabs(value) : value; }

std::string format_parts(std::string_view format, std::initializer_list<MessagePart> parts) {
  fmt::dynamic_format_arg_store<fmt::format_context> store;
  for (const auto& part : parts) std::visit([&](const auto& value) { store.push_back(shown(value)); }, part);
  return fmt::vformat(fmt::string_view(format.data(), format.size()), store);
}

void refuse_parts(std::string_view format, std::initializer_list<MessagePart> parts) {
  throw InvalidArgument(format_parts(format, parts));
}

std::string did_you_mean(std::string_view word, std::span<const std::string> candidates) {
  std::string best;
  size_t closest = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates)
    if (const size_t distance = edit_distance(word, candidate); distance < closest)
      closest = distance, best = candidate;
  return best.empty() ? "" : " (did you mean '" + best + "'?)";
}

}  // namespace libtrain
