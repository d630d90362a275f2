// An operation, a loss and a training loop of one's own. The operation has kernels for the CPU and, where the library has CUDA, for a device;
// its gradient is checked against differences, and a small model learns a wave with it.
#include <cstdio>
#include <numbers>

#include "snake.h"

using libtrain::Device;
using libtrain::Tensor;

/// The largest difference between the gradient of sum(snake(x)) and central differences, in f64.
double gradient_error(Device device) {
  constexpr double kStep = 1e-5, kFrequency = 1.7;
  std::vector<double> at;
  for (int i = 0; i < 37; ++i) at.push_back(0.2 * i - 3.5);
  const auto moved = [&](double by) {
    std::vector<double> x = at;
    for (double& value : x) value += by;
    return own::snake(Tensor::from<double>(x, {37}, device), kFrequency).to_vector<double>();
  };
  const Tensor x = Tensor::from<double>(at, {37}, device);
  x.set_requires_grad();
  libtrain::Tape tape;
  tape.backward(sum(own::snake(x, kFrequency)));
  const auto dx = x.grad().to_vector<double>(), above = moved(kStep), below = moved(-kStep);
  double worst = 0;
  for (size_t i = 0; i < at.size(); ++i) worst = std::max(worst, std::abs(dx[i] - (above[i] - below[i]) / (2 * kStep)));
  return worst;
}

/// The mean of squared differences: a loss is any scalar.
Tensor squared_error(const Tensor& y, const Tensor& expected) {
  const Tensor difference = sub(y, expected);
  return mean(mul(difference, difference));
}

/// Learns sin(x) from 64 points, in a loop of its own. Returns the last loss.
double learn_wave(Device device) {
  std::vector<float> x, wave;
  for (int i = 0; i < 64; ++i) {
    x.push_back(float(i - 32) / 10);
    wave.push_back(float(std::sin(2 * x.back())));
  }
  const Tensor input = Tensor::from<float>(x, {64, 1}, device), expected = Tensor::from<float>(wave, {64, 1}, device);
  libtrain::Parameters parameters({.device = device});
  const libtrain::Linear first(parameters, "first", 1, 16), last(parameters, "last", 16, 1);
  double loss = 0;
  for (int step = 1; step <= 300; ++step) {
    {
      libtrain::Tape tape;
      const Tensor error = squared_error(last(own::snake(first(input), 2)), expected);
      tape.backward(error);
      loss = error.item();
    }
    libtrain::StepState state = parameters.step();
    state.loss_count = 1;  // the gradients are those of a mean
    state.learning_rate = 0.01;
    parameters.set_step(state);
    clip_by_norm(parameters, 1);
    adam_update(parameters, {});
    parameters.clear_gradients();
  }
  return loss;
}

/// Whether everything holds on this device.
bool check(Device device) {
  const double error = gradient_error(device), loss = learn_wave(device);
  std::printf("%s: gradient within %.1e, loss %.5f\n", libtrain::describe(device).c_str(), error, loss);
  return error < 1e-8 && loss < 0.01;
}

int main() {
  bool good = check(Device::kCpu);
  if (libtrain::cuda_available()) good &= check(Device::kCuda);
  return good ? 0 : 1;
}
