/// Attention by the kernels for Hopper, which are off where kernels are executed on the CPU: the switch, and rows as those of the table.
#pragma once
#include "kernels/cuda/attention_paths.h"
#include "kernels/cuda/runtime.h"
#include "op_cases_attention.h"

namespace libtrain::testing {

/// Sets the switch while it lives.
class HopperSwitch {
 public:
  explicit HopperSwitch(bool on) : before_(kernels::hopper_attention()) { kernels::set_hopper_attention(on); }
  ~HopperSwitch() { kernels::set_hopper_attention(before_); }
  HopperSwitch(const HopperSwitch&) = delete;
  HopperSwitch& operator=(const HopperSwitch&) = delete;

 private:
  bool before_;
};

/// Whether the switch does anything here.
inline bool hopper_device() { return kernels::runtime::device_info().capability == 90; }

/// Lengths around those of warps, warpgroups, tiles and blocks: 16, 32, 64 and 128 rows; none and one; one tile, and more than a ring has slots for.
inline std::vector<OpCase> hopper_rows() {
  const Lengths edges{{1, 63, 64, 65, 0, 127, 128, 129}, {}, 0}, tiles{{200, 300}, {}, 3};
  const Lengths cross{{129, 64, 1, 0, 200, 63, 5, 127}, {1, 300, 129, 64, 65, 200, 0, 128}, 2};
  std::vector<OpCase> rows;
  for (const int64_t head_dim : {64, 128}) {
    rows.push_back(attention_row("full", edges, 1, head_dim, 0));
    rows.push_back(attention_row("causal", edges, 2, head_dim, 0.3f));
    rows.push_back(attention_row("full", tiles, 2, head_dim, 0.3f));
    rows.push_back(attention_row("causal", tiles, 1, head_dim, 0));
    rows.push_back(attention_row("cross", cross, 1, head_dim, 0.3f));
    rows.push_back(attention_row("cross", {{65, 3}, {520, 257}, 1}, 1, head_dim, 0));
    rows.push_back(attention_row("causal", {{385}, {}, 1}, 1, head_dim, 0.3f));
    rows.push_back(attention_row("cross", {{130, 4}, {0, 0}, 0}, 1, head_dim, 0));
  }
  return rows;
}

}  // namespace libtrain::testing
