#include "kernels/cuda_on_cpu/read_sets.h"

#include <utility>

namespace libtrain::kernels::executor::checker {

void ReadSets::clear() {
  numbers_.clear();
  sets_.clear();
}

uint32_t ReadSets::number_of(std::vector<Reader> readers) {
  const auto [at, is_new] = numbers_.try_emplace(std::move(readers), uint32_t(sets_.size()));
  if (is_new) sets_.push_back(&at->first);
  return at->second;
}

}  // namespace libtrain::kernels::executor::checker
