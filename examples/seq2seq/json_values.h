/// Values of JSON that someone else may have written.
#pragma once
#include <cstdint>
#include <limits>

#include "libtrain/error.h"

namespace seq2seq {

/// Throws libtrain::InvalidArgument unless `json` is a whole number that an int64_t holds: of others, nlohmann's own conversion is undefined.
int64_t whole_number(const auto& json) {
  const bool too_large =
      json.is_number_unsigned() && json.template get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max());
  LIBTRAIN_CHECK(json.is_number_integer() && !too_large, "expected a whole number below 2^63, got {}", json.dump());
  return json.template get<int64_t>();
}

}  // namespace seq2seq
