/// What a kernel does with an index outside its table, for which the host cannot be asked: it skips the access, and leaves a note.
#pragma once
#include <cstdint>

namespace libtrain {

/// The first such index since the note was cleared. One per stream, in the memory of the device; see Cuda::bad_index.
struct BadIndex {
  enum Op : int32_t { kNone = 0, kEmbedding = 1, kCrossEntropy = 2, kCopyRows = 3 };
  int32_t op = kNone;     // kNone: all was well
  int32_t position = -1;  // of the row within its sequence, -1 where the kernel does not know
  int64_t row = 0;        // of the argument that held the index
  int64_t value = 0;      // the index
  int64_t limit = 0;      // it should have been in [0, limit)
};

}  // namespace libtrain
