/// How an optimizer treats neighbouring weights: a device table with one entry per kUpdateUnit weights, so that groups with rates and
/// decays of their own are updated by the launch that updates all.
#pragma once
#include <cstdint>

namespace libtrain {

struct alignas(8) UpdateFactors {
  float rate = 1;   // on the learning rate; 0: weights and moments stay as they are, whatever their gradient
  float decay = 1;  // on the weight decay
};

/// Weights that share one entry. Slots of a parameter store start at multiples of it.
constexpr int64_t kUpdateUnit = 32;

}  // namespace libtrain
