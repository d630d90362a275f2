/// Sequences of different lengths stored end to end, without padding between them.
#pragma once
#include "libtrain/tensor.h"

namespace libtrain {

/// Where the sequences lie in a packed tensor [tokens, ...]. Rows from cu_seqlens[count] on are tail: they belong to no sequence, and
/// every operation writes defined values (attention: zeros) there. Empty sequences are allowed.
struct Packing {
  Tensor cu_seqlens;  // i32[count + 1]: sequence s is rows [cu_seqlens[s], cu_seqlens[s + 1])
  Tensor positions;   // i32[tokens]: position of each row within its sequence; 0 in the tail
  /// i32[tokens]: logical number of each row's sequence (the pair's place in the batch); 0 in the tail.
  Tensor sequences;
  int64_t max_length = 0;  // no sequence is longer
  /// Number of sequences, empty ones included.
  int64_t count() const { return cu_seqlens.dim(0) - 1; }
  /// Number of rows, tail included.
  int64_t tokens() const { return positions.dim(0); }
  /// A copy on `device`.
  Packing to(Device device) const {
    return {cu_seqlens.to(device), positions.to(device), sequences.to(device), max_length};
  }
};

/// The packing of sequences with these lengths, with `capacity` rows in all (default, -1: their sum), on `device`.
/// Throws InvalidArgument for a negative length, a capacity below the sum (but -1), and 2^31 tokens or more.
Packing make_packing(std::span<const int64_t> lengths, Device device = Device::kCpu, int64_t capacity = -1);

}  // namespace libtrain
