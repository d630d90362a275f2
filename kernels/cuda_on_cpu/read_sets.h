/// Sets of reads that nothing orders among each other, each stored once, so that cells name one by its number.
#pragma once
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "kernels/cuda_on_cpu/vector_clocks.h"

namespace libtrain::kernels::executor::checker {

struct Reader {
  uint32_t time, pc;
  Agent agent;
  auto operator<=>(const Reader&) const = default;
};

class ReadSets {
 public:
  void clear();
  uint32_t number_of(std::vector<Reader> readers);
  const std::vector<Reader>& operator[](uint32_t number) const { return *sets_[number]; }

 private:
  std::map<std::vector<Reader>, uint32_t> numbers_;
  std::vector<const std::vector<Reader>*> sets_;
};

}  // namespace libtrain::kernels::executor::checker
