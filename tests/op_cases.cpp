#include "op_cases.h"

#include "references.h"

namespace libtrain::testing {

// ---- The rows -----------------------------------------------------------------------------------------------------------

namespace {

OpCase layer_norm_row(int64_t rows, int64_t columns, bool big = false) {
  return {.name = format_message("layer_norm {}x{}", rows, columns),
          .inputs = {{{rows, columns}}, {{columns}}, {{columns}}},
          .call = [](const auto& in) { return layer_norm(in[0], in[1], in[2]); },
          .reference = [=](const Inputs& in) { return layer_norm_reference(in, columns, 1e-5); },
          .terms = std::max(rows, columns),
          .elements = 2.0 * double(rows * columns),
          .flops = 8.0 * double(rows * columns),
          .big = big};
}

std::vector<OpCase> make_rows() {
  std::vector<OpCase> rows;
  // layer_norm
  for (const auto& [r, c] : {std::pair<int64_t, int64_t>{3, 33}, {127, 31}, {1, 1}, {0, 8}, {2, 8003}})
    rows.push_back(layer_norm_row(r, c, r * c > 8000));
  rows.push_back(layer_norm_row(4096, 512, true));
  return rows;
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> rows = make_rows();
  return rows;
}

// ---- Inputs -------------------------------------------------------------------------------------------------------------

Fill normal(double stddev) {
  return [stddev](Values& values, Generator& generator) {
    std::normal_distribution<double> draw(0, stddev);
    for (double& value : values) value = draw(generator);
  };
}

Fill away_from_zero() {
  return [](Values& values, Generator& generator) {
    normal()(values, generator);
    for (double& value : values) value += value < 0 ? -0.05 : 0.05;
  };
}

Fill integers(int64_t low, int64_t high) {
  return [=](Values& values, Generator& generator) {
    std::uniform_int_distribution<int64_t> draw(low, high - 1);
    for (double& value : values) value = double(draw(generator));
  };
}

Fill exactly(Values wanted) {
  return [wanted = std::move(wanted)](Values& values, Generator&) { values = wanted; };
}

std::vector<Tensor> make_inputs(const OpCase& row, DType dtype, Device device, uint64_t seed) {
  std::vector<Tensor> inputs;
  Generator generator(seed);
  for (const Input& input : row.inputs) {
    Values values(static_cast<size_t>(input.shape.numel()));
    input.fill(values, generator);
    const Tensor host = Tensor::from(std::span<const double>(values), input.shape);
    inputs.push_back(host.cast(is_float(input.dtype) ? dtype : input.dtype).to(device));
    if (is_float(input.dtype)) inputs.back().set_requires_grad(input.differentiable);
  }
  return inputs;
}

Values values_of(const Tensor& tensor) { return tensor.cast(DType::f64).to_vector<double>(); }

}  // namespace libtrain::testing
