/// How parameters start.
#pragma once
#include <functional>
#include <span>
#include <string_view>

#include "libtrain/shape.h"

namespace libtrain {

/// Fills host memory. `generator` gives uniform numbers in [0, 1) that depend on seed and name of the parameter only.
using Initializer =
    std::function<void(std::span<double> values, const Shape& shape, const std::function<double()>& generator)>;

/// Weights are [fan_out, fan_in], as in torch.nn.init; those that need the fans throw InvalidArgument for other ranks.
namespace init {
/// Every element `value`.
Initializer constant(double value);
/// U(low, high), `high` excluded.
Initializer uniform(double low, double high);
/// N(mean, stddev²).
Initializer normal(double mean, double stddev);
/// U(±gain · sqrt(6 / (fan_in + fan_out))) (Glorot and Bengio, AISTATS 2010).
Initializer xavier_uniform(double gain = 1);
/// N(0, gain² · 2 / (fan_in + fan_out)).
Initializer xavier_normal(double gain = 1);
/// U(±sqrt(6 / fan_in)), for layers before a ReLU (He et al., ICCV 2015).
Initializer kaiming_uniform();
/// N(0, 2 / fan_in).
Initializer kaiming_normal();
/// Rows, or where there are more rows than columns, columns of length `gain` that are orthogonal to each other (Saxe et al., ICLR 2014).
Initializer orthogonal(double gain = 1);

/// "zeros", "ones", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal" or "orthogonal", with their defaults: what a
/// configuration file can name. Throws InvalidArgument suggesting the closest name.
Initializer by_name(std::string_view name);
}  // namespace init

}  // namespace libtrain
