/// Dropout within a row of the table.
#pragma once
#include <memory>

#include "references.h"

namespace libtrain::testing {

/// Drops a share p of `rows` rows: two sequences, an empty one between them and a tail, or not packed at all.
struct DropoutCase {
  int64_t rows;
  float p;
  bool packed;

  static constexpr RandomState kState{.seed = 5, .step = 9};
  static constexpr uint32_t kStream = 3;

  std::vector<int64_t> lengths() const { return {rows / 3, 0, rows / 2}; }
  Packing packing(Device device) const { return packed ? make_packing(lengths(), device, rows) : Packing{}; }
  DropoutSpec spec(Device device) const {
    return {p, kStream, Tensor::from({int64_t(kState.seed), int64_t(kState.step)}, {2}, device)};
  }
  /// One, if there is none yet: without a tape nothing is dropped.
  std::unique_ptr<Tape> tape() const { return Tape::active() ? nullptr : std::make_unique<Tape>(); }

  /// (sequence, position) of each row.
  std::vector<std::pair<uint32_t, uint32_t>> places() const {
    std::vector<std::pair<uint32_t, uint32_t>> places;
    for (int64_t r = 0; r < rows; ++r) places.emplace_back(0, packed ? 0 : r);
    uint32_t sequence = 0;
    size_t first = 0;
    for (const int64_t length : packed ? lengths() : std::vector<int64_t>{}) {
      for (int64_t i = 0; i < length; ++i) places[first++] = {sequence, uint32_t(i)};
      ++sequence;
    }
    return places;
  }
  Values positions() const {
    Values positions;
    for (const auto& [sequence, position] : places()) positions.push_back(position);
    return positions;
  }

  Values reference(const Values& x, int64_t columns) const {
    return dropout_reference(x, columns, double(p), kState, kStream, places());
  }
};

}  // namespace libtrain::testing
