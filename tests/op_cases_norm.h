/// Rows of the table for normalizations of rows: layer_norm and rms_norm.
#pragma once
#include "references.h"

namespace libtrain::testing {

inline OpCase layer_norm_row(int64_t rows, int64_t columns, bool big = false) {
  return {.name = format_message("layer_norm {}x{}", rows, columns),
          .inputs = {{{rows, columns}}, {{columns}}, {{columns}}},
          .call = [](const auto& in) { return layer_norm(in[0], in[1], in[2]); },
          .reference = [=](const Inputs& in) { return layer_norm_reference(in, columns, 1e-5); },
          .terms = std::max(rows, columns),
          .elements = 2.0 * double(rows * columns),
          .flops = 8.0 * double(rows * columns),
          .big = big};
}

inline OpCase rms_norm_row(int64_t rows, int64_t columns, bool big = false) {
  return {.name = format_message("rms_norm {}x{}", rows, columns),
          .inputs = {{{rows, columns}}, {{columns}}},
          .call = [](const auto& in) { return rms_norm(in[0], in[1], 1e-3); },
          .reference = [=](const Inputs& in) { return rms_norm_reference(in, columns, 1e-3); },
          .terms = std::max(rows, columns),
          .elements = 2.0 * double(rows * columns),
          .flops = 4.0 * double(rows * columns),
          .big = big};
}

inline void add_norm_cases(std::vector<OpCase>& rows) {
  // Odd sizes; then whole packs: rows of a warp, of two and of a block, more of them than groups walk side by side, and rows too long for any.
  for (const auto& [r, c] : {std::pair<int64_t, int64_t>{3, 33},
                             {127, 31},
                             {31, 129},
                             {129, 127},
                             {1, 1},
                             {0, 8},
                             {2, 8003},
                             {100, 64},
                             {3, 1000},
                             {100, 504},
                             {100, 1000},
                             {20, 1032},
                             {3, 4104},
                             {4096, 512}}) {
    rows.push_back(layer_norm_row(r, c, r * c > 25000));
    rows.push_back(rms_norm_row(r, c, r * c > 25000));
  }
}

}  // namespace libtrain::testing
