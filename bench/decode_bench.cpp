/// Times decoding with a model whose weights are random: sources of equal length, each decoded to as many tokens. Prints one JSON line: output
/// tokens, the median of their rates a second, seconds of each run.
///
///   decode_bench [--config g2p|tiny|small|base|big] [--sources N] [--length N] [--runs N] [--device cpu|cuda]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>

#include "named_models.h"

namespace {

using namespace libtrain;

struct Arguments {
  std::string config = "g2p";
  int64_t sources = 128, length = 16, runs = 5;
  Device device = Device::kCpu;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string key = argv[i], value = argv[i + 1];
    if (key == "--config")
      arguments.config = value;
    else if (key == "--sources")
      arguments.sources = std::stoll(value);
    else if (key == "--length")
      arguments.length = std::stoll(value);
    else if (key == "--runs")
      arguments.runs = std::stoll(value);
    else if (key == "--device" && (value == "cpu" || value == "cuda"))
      arguments.device = value == "cuda" ? Device::kCuda : Device::kCpu;
    else
      throw InvalidArgument("unknown option " + key + " " + value);
  }
  LIBTRAIN_CHECK(argc % 2 == 1 && arguments.sources > 0 && arguments.length > 0 && arguments.runs > 0,
                 "usage: decode_bench [--config NAME] [--sources N] [--length N] [--runs N] [--device cpu|cuda]");
  return arguments;
}

std::vector<std::vector<int32_t>> random_sources(const Arguments& arguments, int64_t vocab) {
  std::mt19937_64 generator(1);
  std::vector<std::vector<int32_t>> sources(static_cast<size_t>(arguments.sources));
  for (auto& source : sources)
    for (int64_t i = 0; i < arguments.length; ++i)
      source.push_back(int32_t(kSpecialTokens + generator() % uint64_t(vocab - kSpecialTokens)));
  return sources;
}

int run(const Arguments& arguments) {
  TransformerOptions options = bench::named_model(arguments.config);
  options.max_positions = arguments.length + 1;
  Parameters parameters(
      {.dtype = arguments.device == Device::kCuda ? DType::bf16 : DType::f32, .device = arguments.device});
  const Transformer model(parameters, options);
  const auto sources = random_sources(arguments, options.source_vocab);
  std::vector<double> seconds;
  int64_t tokens = 0;
  for (int64_t r = -1; r < arguments.runs; ++r) {  // the first warms up
    const auto began = std::chrono::steady_clock::now();
    const auto outputs = greedy_decode(model, sources, arguments.length, arguments.device);
    const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    tokens = 0;
    for (const auto& output : outputs) tokens += int64_t(output.size());
    if (r >= 0) seconds.push_back(took);
  }
  std::string list;
  for (const double s : seconds) list += (list.empty() ? "" : ", ") + format_message("{:.4f}", s);
  std::ranges::nth_element(seconds, seconds.begin() + std::ptrdiff_t(seconds.size() / 2));
  std::printf(
      "{\"config\": \"%s\", \"sources\": %ld, \"output_tokens\": %ld, \"tokens_per_second\": %.0f, \"seconds\": "
      "[%s]}\n",
      arguments.config.c_str(), long(arguments.sources), long(tokens), double(tokens) / seconds[seconds.size() / 2],
      list.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
