/// Times whole training steps (forward, backward, clip, Adam) of a seq2seq transformer on given batches, and prints one JSON line:
/// target tokens per second, seconds of each step, calls to the system allocator for tensor memory per step, peak memory (of the process, and of
/// what tensors need besides weights, gradients and optimizer), final loss.
///
///   train_step_bench --config g2p|tiny|small|base|big --batches FILE [--steps N] [--warmup N] [--device cpu|cuda] [--graphs 0|1]
///                    [--weight-gradient-stream 0|1] [--size N] [--vocab N] [--layers N]
///
/// --size, --vocab and --layers give the model of the configuration another width (heads of 32, inner size four times that), other vocabularies
/// and another number of layers, of encoder and decoder each.
/// On a CUDA device in bf16 with f32 masters, from batches that are there already; the seconds are then those of all steps together, and the
/// memory is the device's.
///
/// FILE holds one pair a line, "ids<TAB>ids" separated by spaces without kEos, and an empty line between batches.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "named_models.h"

namespace {

using namespace libtrain;

struct Arguments {
  std::string config = "g2p", batches;
  int64_t steps = 20, warmup = 10, size = 0, vocab = 0, layers = 0;  // 0: the configuration's
  Device device = Device::kCpu;
  bool graphs = false, weight_gradient_stream = false;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i], value = argv[i + 1];
    if (key == "--config")
      arguments.config = value;
    else if (key == "--batches")
      arguments.batches = value;
    else if (key == "--steps")
      arguments.steps = std::stoll(value);
    else if (key == "--warmup")
      arguments.warmup = std::stoll(value);
    else if (key == "--size")
      arguments.size = std::stoll(value);
    else if (key == "--vocab")
      arguments.vocab = std::stoll(value);
    else if (key == "--layers")
      arguments.layers = std::stoll(value);
    else if (key == "--device" && (value == "cpu" || value == "cuda"))
      arguments.device = value == "cuda" ? Device::kCuda : Device::kCpu;
    else if (key == "--graphs" && (value == "0" || value == "1"))
      arguments.graphs = value == "1";
    else if (key == "--weight-gradient-stream" && (value == "0" || value == "1"))
      arguments.weight_gradient_stream = value == "1";
    else
      throw InvalidArgument("unknown option " + key + " " + value);
  }
  LIBTRAIN_CHECK(!arguments.batches.empty() && argc % 2 == 1,
                 "usage: train_step_bench --config NAME --batches FILE [--steps N] [--warmup N]");
  return arguments;
}

TransformerOptions model_of(const Arguments& arguments) {
  TransformerOptions model = bench::named_model(arguments.config);
  model.max_positions = 4096;
  if (const int64_t size = arguments.size; size > 0)
    model.layer.size = size, model.layer.heads = std::max<int64_t>(1, size / 32),
    model.layer.feed_forward_size = 4 * size;
  if (arguments.vocab > 0) model.source_vocab = model.target_vocab = arguments.vocab;
  if (arguments.layers > 0) model.encoder_layers = model.decoder_layers = arguments.layers;
  return model;
}

std::vector<int32_t> read_ids(const std::string& text) {
  std::istringstream stream(text);
  std::vector<int32_t> ids;
  for (int32_t id; stream >> id;) ids.push_back(id);
  return ids;
}

/// Cycles through the batches of the file, in order.
class FileBatches : public BatchSource<Batch> {
 public:
  FileBatches(const std::string& path, int64_t steps, Device device) : steps_(steps) {
    // On a device, few layouts, so that few graphs are captured.
    BatchOptions options{.device = device};
    if (device == Device::kCuda)
      options = {.capacity_multiple = 1024, .pairs_multiple = 64, .length_multiple = 16, .device = device};
    std::ifstream file(path);
    LIBTRAIN_CHECK(file.good(), "cannot read {}", path);
    std::vector<std::vector<Pair>> groups(1);
    for (std::string line; std::getline(file, line);) {
      if (line.empty() && !groups.back().empty()) groups.emplace_back();
      if (const size_t tab = line.find('\t'); tab != std::string::npos)
        groups.back().push_back({read_ids(line.substr(0, tab)), read_ids(line.substr(tab + 1))});
    }
    for (const auto& group : groups)
      if (!group.empty()) batches_.push_back(make_batch(std::span<const Pair>(group), options));
    LIBTRAIN_CHECK(!batches_.empty(), "{} holds no batches", path);
  }
  int64_t begin_epoch(int64_t) override { return steps_; }
  Batch get(int64_t index) override { return batches_[size_t(index) % batches_.size()]; }

 private:
  int64_t steps_;
  std::vector<Batch> batches_;
};

struct Result {
  double seconds = 0, last_loss = 0;
  int64_t targets = 0;
  std::string step_seconds;
};

/// Steps as the loop reports them, each timed by itself.
Result run_on_cpu(TrainLoop& loop, const Arguments& arguments, int64_t& allocations) {
  Result result;
  loop.on_step([&](const StepReport& report) {
    if (report.step == arguments.warmup) allocations = allocator_stats(Device::kCpu).system_allocations;
    if (report.step <= arguments.warmup) return;
    result.seconds += report.seconds;
    result.targets += report.targets;
    result.last_loss = report.loss;
    result.step_seconds += format_message("{}{:.6f}", result.step_seconds.empty() ? "" : ", ", report.seconds);
  });
  loop.run();
  return result;
}

/// The host runs ahead: steps are timed together, up to the end of the last on the device.
Result run_on_device(TrainLoop& loop, const Arguments& arguments, int64_t& allocations) {
  Result result;
  loop.on_step([&](const StepReport& report) {
    if (report.step > arguments.warmup) result.targets += report.targets;
    result.last_loss = report.loss;
  });
  for (int64_t i = 0; i < arguments.warmup; ++i) loop.step();
  cuda::synchronize();
  allocations = allocator_stats(Device::kCuda).system_allocations;
  const auto began = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < arguments.steps; ++i) loop.step();
  cuda::synchronize();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  result.step_seconds = format_message("{:.6f}", result.seconds);
  loop.run();  // to the end, where the last reports are
  return result;
}

/// What tensors needed at most besides weights, gradients and optimizer.
double activations_mib(Device device) {
  const AllocatorStats stats = allocator_stats(device);
  const int64_t lasting = stats.bytes_for(MemoryUse::kWeights) + stats.bytes_for(MemoryUse::kGradients) +
                          stats.bytes_for(MemoryUse::kOptimizer);
  return double(stats.peak_bytes_in_use - lasting) / (1 << 20);
}

double peak_mib(Device device) {
  if (device == Device::kCuda) return double(allocator_stats(device).peak_bytes_in_use) / (1 << 20);
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_maxrss) / 1024;
}

void run(const Arguments& arguments) {
  const Device device = arguments.device;
  Parameters parameters({.mixed_precision = device == Device::kCuda, .device = device});
  const Transformer model(parameters, model_of(arguments));
  FileBatches batches(arguments.batches, arguments.warmup + arguments.steps, device);
  TrainLoop loop(
      parameters, batches, [&](const Batch& batch) { return model.loss(batch); },
      {.clip_norm = 1.0, .graphs = arguments.graphs, .weight_gradient_stream = arguments.weight_gradient_stream});
  reset_peak(device);
  int64_t allocations = 0;
  const Result result =
      device == Device::kCuda ? run_on_device(loop, arguments, allocations) : run_on_cpu(loop, arguments, allocations);
  allocations = allocator_stats(device).system_allocations - allocations;
  std::printf(
      "{\"target_tokens_per_second\": %.1f, \"step_seconds\": [%s], \"system_allocations_per_step\": %.3f, "
      "\"peak_mib\": %.1f, \"activations_mib\": %.1f, \"final_loss\": %.5f, \"parameters\": %ld, \"device\": \"%s\"}\n",
      double(result.targets) / result.seconds, result.step_seconds.c_str(),
      double(allocations) / double(arguments.steps), peak_mib(device), activations_mib(device), result.last_loss,
      long(parameters.count()), describe(device).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  }
  return 0;
}
