/// Times whole training steps (forward, backward, clip, Adam) of a seq2seq transformer on given batches, and prints one JSON line:
/// target tokens per second, seconds of each step, calls to the system allocator for tensor memory per step, peak memory, final loss.
///
///   train_step_bench --config g2p|tiny|small --batches FILE [--steps N] [--warmup N]
///
/// FILE holds one pair a line, "ids<TAB>ids" separated by spaces without kEos, and an empty line between batches.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "libtrain/libtrain.h"

namespace {

using namespace libtrain;

struct Arguments {
  std::string config = "g2p", batches;
  int64_t steps = 20, warmup = 10;
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
    else
      throw InvalidArgument("unknown option " + key);
  }
  LIBTRAIN_CHECK(!arguments.batches.empty() && argc % 2 == 1,
                 "usage: train_step_bench --config NAME --batches FILE [--steps N] [--warmup N]");
  return arguments;
}

/// The models of compare_pytorch.py, under the same names.
TransformerOptions model_of(const std::string& config) {
  const std::map<std::string, TransformerOptions> models{
      {"g2p", {.source_vocab = 32, .target_vocab = 48, .layer = {.size = 128, .heads = 4, .feed_forward_size = 512}}},
      {"tiny",
       {.source_vocab = 10000,
        .target_vocab = 10000,
        .encoder_layers = 4,
        .decoder_layers = 4,
        .layer = {.size = 128, .heads = 4, .feed_forward_size = 256}}},
      {"small",
       {.source_vocab = 8000, .target_vocab = 8000, .layer = {.size = 256, .heads = 4, .feed_forward_size = 1024}}}};
  LIBTRAIN_CHECK(models.contains(config), "config must be g2p, tiny or small, got '{}'", config);
  return models.at(config);
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
  FileBatches(const std::string& path, int64_t steps) : steps_(steps) {
    std::ifstream file(path);
    LIBTRAIN_CHECK(file.good(), "cannot read {}", path);
    std::vector<std::vector<Pair>> groups(1);
    for (std::string line; std::getline(file, line);) {
      if (line.empty() && !groups.back().empty()) groups.emplace_back();
      if (const size_t tab = line.find('\t'); tab != std::string::npos)
        groups.back().push_back({read_ids(line.substr(0, tab)), read_ids(line.substr(tab + 1))});
    }
    for (const auto& group : groups)
      if (!group.empty()) batches_.push_back(make_batch(std::span<const Pair>(group)));
    LIBTRAIN_CHECK(!batches_.empty(), "{} holds no batches", path);
  }
  int64_t begin_epoch(int64_t) override { return steps_; }
  Batch get(int64_t index) override { return batches_[size_t(index) % batches_.size()]; }

 private:
  int64_t steps_;
  std::vector<Batch> batches_;
};

void run(const Arguments& arguments) {
  Parameters parameters;
  const Transformer model(parameters, model_of(arguments.config));
  FileBatches batches(arguments.batches, arguments.warmup + arguments.steps);
  TrainLoop loop(parameters, batches, [&](const Batch& batch) { return model.loss(batch); }, {.clip_norm = 1.0});
  double seconds = 0, last_loss = 0;
  int64_t targets = 0, allocations = 0;
  std::string step_seconds;
  loop.on_step([&](const StepReport& report) {
    if (report.step == arguments.warmup) allocations = allocator_stats(Device::kCpu).system_allocations;
    if (report.step <= arguments.warmup) return;
    seconds += report.seconds;
    targets += report.targets;
    last_loss = report.loss;
    step_seconds += format_message("{}{:.6f}", step_seconds.empty() ? "" : ", ", report.seconds);
  });
  loop.run();
  allocations = allocator_stats(Device::kCpu).system_allocations - allocations;
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  std::printf(
      "{\"target_tokens_per_second\": %.1f, \"step_seconds\": [%s], \"system_allocations_per_step\": %.3f, "
      "\"peak_rss_mib\": %.1f, "
      "\"final_loss\": %.5f, \"parameters\": %ld, \"device\": \"%s\"}\n",
      double(targets) / seconds, step_seconds.c_str(), double(allocations) / double(arguments.steps),
      double(usage.ru_maxrss) / 1024, last_loss, long(parameters.count()), describe(Device::kCpu).c_str());
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
