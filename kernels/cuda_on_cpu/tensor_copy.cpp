#include "kernels/cuda_on_cpu/tensor_copy.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda_on_cpu/asynchronous.h"
#include "kernels/cuda_on_cpu/device_memory.h"
#include "kernels/cuda_on_cpu/observer.h"
#include "kernels/cuda_on_cpu/shared_memory.h"
#include "kernels/failure.h"

namespace libtrain::kernels::executor {
namespace {

constexpr size_t kRowBytes = kBoxColumns * 2, kPattern = 1024;
constexpr int kMaxBoxRows = 256;

int64_t bytes_of(const TensorMap& map) { return int64_t(map.box_rows) * int64_t(kRowBytes); }

/// The part of a range of `count` from `begin` on that lies within 0 … limit - 1, relative to `begin`.
struct Part {
  int64_t begin, end;
};
Part inside(int64_t begin, int64_t count, int64_t limit) {
  return {std::clamp<int64_t>(-begin, 0, count), std::clamp<int64_t>(limit - begin, 0, count)};
}

const unsigned char* source(const TensorCopy& copy, int64_t row, int64_t column) {
  return copy.map.data + (copy.row + row) * copy.map.row_bytes + (copy.column + column) * 2;
}

/// A row as it arrives: zero outside of the matrix.
void read_row(const TensorCopy& copy, int64_t row, unsigned char (&to)[kRowBytes]) {
  std::memset(to, 0, kRowBytes);
  const int64_t of_matrix = copy.row + row;
  const Part part = inside(copy.column, kBoxColumns, copy.map.columns);
  if (of_matrix < 0 || of_matrix >= copy.map.rows || part.begin >= part.end) return;
  std::memcpy(to + part.begin * 2, source(copy, row, part.begin), size_t(part.end - part.begin) * 2);
}

void deliver(Block& block, const TensorCopy& copy) {
  unsigned char* const base = shared_memory().dynamic_begin;
  const auto offset = size_t(copy.to - base);
  for (int row = 0; row < copy.map.box_rows; ++row) {
    unsigned char bytes[kRowBytes];
    read_row(copy, row, bytes);
    for (size_t at = 0; at < kRowBytes; at += 16)
      std::memcpy(base + swizzled(offset + size_t(row) * kRowBytes + at), bytes + at, 16);
  }
  observe_copy_end(copy.mbarrier, copy.begun);
  deliver_bytes(block, copy.mbarrier, bytes_of(copy.map));
}

void check_destination(const void* shared, int64_t bytes, Site site) {
  const auto complain = [&](auto... what) {
    fault(text("tma_load at ", text_of(site), ": the destination ", what...));
  };
  const SharedMemory& all = shared_memory();
  const auto offset = size_t(static_cast<const unsigned char*>(shared) - all.dynamic_begin);
  if (offset >= all.dynamic_bytes || size_t(bytes) > all.dynamic_bytes - offset)
    complain(bytes, " bytes at ", shared, ", is not in dynamic shared memory");
  if (offset % kPattern)
    complain("at byte ", offset, " of dynamic shared memory is not a multiple of ", kPattern, ", as the swizzle asks");
}

void read_source(const TensorCopy& copy, Site site, const void* pc) {
  const Part rows = inside(copy.row, copy.map.box_rows, copy.map.rows);
  const Part columns = inside(copy.column, kBoxColumns, copy.map.columns);
  for (int64_t row = rows.begin; row < rows.end && columns.begin < columns.end; ++row) {
    const unsigned char* from = source(copy, row, columns.begin);
    const auto bytes = size_t(columns.end - columns.begin) * 2;
    if (!is_live(arena_offset(from), bytes))
      fault(text("tma_load at ", text_of(site), ": out of bounds: row ", copy.row + row, " of the matrix at ",
                 describe(from), " of the device"));
    observe_copy_source(copy.mbarrier, from, bytes, pc);
  }
}

}  // namespace

TensorMap make_tensor_map(const void* data, int64_t rows, int64_t columns, int64_t row_stride, int box_rows,
                          int box_columns) {
  const auto complain = [&](auto... what) { throw Failure(text("[tensor_map] ", what...)); };
  if (reinterpret_cast<uintptr_t>(data) % 16) complain("the address ", data, " is not a multiple of 16");
  if (row_stride % 8) complain("a row stride of ", row_stride, " elements, which is not a multiple of 16 bytes");
  if (rows < 0 || columns < 0 || row_stride < columns) complain(rows, " x ", columns, ", row stride ", row_stride);
  if (box_columns != kBoxColumns) complain("boxes of ", box_columns, " columns, not of ", kBoxColumns);
  if (box_rows < 1 || box_rows > kMaxBoxRows) complain("boxes of ", box_rows, " rows, not of 1 to ", kMaxBoxRows);
  return {static_cast<const unsigned char*>(data), rows, columns, row_stride * 2, box_rows};
}

void tma_load(void* shared, const TensorMap& map, int column, int row, uint64_t* barrier, Site site) {
  check_destination(shared, bytes_of(map), site);
  const void* const pc = __builtin_return_address(0);
  const size_t number = find_mbarrier(barrier, "tma_load", site);
  const uint32_t begun = observe_copy_begin(number, shared, size_t(bytes_of(map)), pc);
  const TensorCopy copy{static_cast<unsigned char*>(shared), map, column, row, number, begun};
  read_source(copy, site, pc);
  std::memset(shared, 0xFF, size_t(bytes_of(map)));
  current->block->asynchronous->copies.push_back(copy);
}

bool deliver_copy(Block& block, bool threads_run, Order::Kind kind, Random& random) {
  auto& copies = block.asynchronous->copies;
  if (copies.empty()) return false;
  if (threads_run && (kind != Order::kRandom || random.below(8))) return false;
  size_t next = 0;
  if (kind == Order::kReverse) next = copies.size() - 1;
  if (kind == Order::kRandom) next = random.below(copies.size());
  const TensorCopy copy = copies[next];
  copies.erase(copies.begin() + std::ptrdiff_t(next));
  deliver(block, copy);
  return true;
}

std::string left_under_way(const Block& block) {
  const Asynchronous& all = *block.asynchronous;
  if (!all.copies.empty())
    return text("ends with ", all.copies.size(), " copies by TMA under way that nobody has waited for");
  for (size_t id = 1; id < kNamedBarriers; ++id)
    if (!all.named[id].arrived.empty())
      return text("ends with ", all.named[id].arrived.size(), " of ", all.named[id].threads,
                  " threads at named barrier ", id, ", first at ", text_of(all.named[id].site));
  return "";
}

void begin_asynchronous(Block& block) {
  if (!block.asynchronous) block.asynchronous = std::make_shared<Asynchronous>();
  Asynchronous& all = *block.asynchronous;
  all.mbarriers.clear();
  all.named = {};
  all.copies.clear();
  all.warpgroups.clear();
  all.fenced.clear();
  all.registers.assign(block.warps.size(), 0);
}

}  // namespace libtrain::kernels::executor
