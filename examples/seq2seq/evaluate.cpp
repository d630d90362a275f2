#include "examples/seq2seq/evaluate.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <numeric>

#include "examples/seq2seq/progress.h"

namespace seq2seq {
namespace {

using libtrain::DataError;
using libtrain::format_message;

constexpr int64_t kMostRows = 256;  // of the decoder
/// So many rows of the decoder need less memory than a pair needs in training, where all that was computed is kept for backward.
constexpr int64_t kRowsPerPair = 4;
constexpr size_t kSampleWords = 12;
constexpr int64_t kMaxLineBytes = 1 << 20;

/// Characters that a terminal shows: continuation bytes of UTF-8 take no column.
size_t columns_of(const std::string& text) {
  return size_t(std::ranges::count_if(text, [](char c) { return (uint8_t(c) & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, size_t columns) {
  return text + std::string(columns - std::min(columns, columns_of(text)), ' ');
}

/// A prediction may be longer than any training target, but not without end: a model that has learnt little never stops.
int64_t decode_limit(const TrainedModel& model) {
  return std::min(model.options.max_length, model.codec.longest_target * 3 / 2 + 4);
}

std::string number_or_null(double value, const char* format) {
  return value < 0 ? "null" : format_message(format, value);
}

std::vector<std::vector<int32_t>> decode(const TrainedModel& model, std::span<const std::vector<int32_t>> sources,
                                         const libtrain::BeamOptions& search) {
  const libtrain::Device device = model.parameters.device();
  const int64_t limit = decode_limit(model);
  if (search.beams == 1) return libtrain::greedy_decode(model.transformer, sources, limit, device);
  std::vector<std::vector<int32_t>> outputs;
  for (auto& found : libtrain::beam_decode(model.transformer, sources, limit, search, device))
    outputs.push_back(std::move(found[0].ids));
  return outputs;
}

libtrain::BeamOptions search_of(const Options& options) {
  return {.beams = options.beams, .length_penalty = options.length_penalty};
}

/// Checked here rather than in the model, so that the message can name the source.
void check_length(const Example& example, const TrainedModel& model, const std::string& where) {
  const auto length = int64_t(example.source_tokens.size());
  if (length > model.options.max_length)
    throw DataError(format_message("[{}] a source of {} tokens is longer than the model's --max-length {}; shorten it",
                                   where, length, model.options.max_length));
}

void report_unknown(int64_t symbols) {
  std::fprintf(stderr, "note: unknown symbols, not in the vocabularies of the model, were read as <unk>: %ld\n",
               long(symbols));
}

/// A line of stdin as an example. Throws DataError naming its number.
Example source_of_line(std::string_view line, int64_t number, const TrainedModel& model) {
  Example example = source_example(std::string(line), model.codec);
  check_length(example, model, format_message("stdin:{}", number));
  return example;
}

}  // namespace

void check_stdout(const std::ostream& out) {
  if (!out) throw libtrain::IoError("[stdout] cannot write the results; is the disk full? Write them elsewhere");
}

int64_t sources_at_a_time(const Options& options, int64_t beams, int64_t longest) {
  int64_t rows = kMostRows;
  if (options.batch_pairs > 0) rows = std::min(rows, kRowsPerPair * options.batch_pairs);
  if (options.batch_tokens > 0) rows = std::min(rows, kRowsPerPair * options.batch_tokens / longest);
  return std::max<int64_t>(rows / beams, 1);
}

std::vector<std::vector<std::string>> predict(const TrainedModel& model, std::span<const Example> examples,
                                              const libtrain::BeamOptions& search,
                                              const std::function<void(int64_t done)>& tell) {
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::ranges::stable_sort(order, {}, [&](size_t i) { return examples[i].source_tokens.size(); });
  std::vector<std::vector<std::string>> predictions(examples.size());
  const auto longest = [&](size_t end) {  // on either side, of those before `end`
    return std::max(int64_t(examples[order[end - 1]].source_tokens.size()) + 1, decode_limit(model));
  };
  for (size_t first = 0, end; first < order.size(); first = end) {
    end = first + 1;
    while (end < order.size() &&
           int64_t(end - first) < sources_at_a_time(model.options, search.beams, longest(end + 1)))
      ++end;
    const std::span<const size_t> chosen(order.data() + first, end - first);
    std::vector<std::vector<int32_t>> sources;
    for (const size_t i : chosen) sources.push_back(model.codec.encode_source(examples[i]));
    const auto outputs = decode(model, sources, search);
    for (size_t i = 0; i < chosen.size(); ++i) predictions[chosen[i]] = model.codec.target.decode(outputs[i]);
    if (tell) tell(int64_t(end));
  }
  return predictions;
}

Scored predict_and_score(const TrainedModel& model, std::span<const Example> examples,
                         const libtrain::BeamOptions& search) {
  ProgressDisplay display;
  Scored scored;
  scored.predictions = predict(model, examples, search, [&](int64_t done) {
    display.status(format_message("scoring {}/{}", with_commas(done), with_commas(int64_t(examples.size()))));
  });
  Scorer scorer;
  for (size_t i = 0; i < examples.size(); ++i) scorer.add(scored.predictions[i], examples[i].targets);
  scored.score = scorer.score();
  return scored;
}

std::string sample_table(std::span<const Example> examples, const std::vector<std::vector<std::string>>& predictions,
                         libtrain::TokenKind kind) {
  struct Row {
    std::string source, predicted, reference;
  };
  std::vector<Row> rows{{"source", "predicted", "reference"}};
  const size_t count = std::min(kSampleWords, examples.size());
  for (size_t n = 0; n < count; ++n) {
    const size_t i = n * examples.size() / count;
    std::string references;
    bool right = false;
    for (const auto& target : examples[i].targets) {
      references += (references.empty() ? "" : " | ") + libtrain::detokenize(target, kind);
      right |= target == predictions[i];
    }
    rows.push_back({examples[i].source, libtrain::detokenize(predictions[i], kind),
                    right ? references : references + "   (wrong)"});
  }
  size_t source = 0, predicted = 0;
  for (const Row& row : rows)
    source = std::max(source, columns_of(row.source)), predicted = std::max(predicted, columns_of(row.predicted));
  std::string table;
  for (const Row& row : rows)
    table += padded(row.source, source) + "  " + padded(row.predicted, predicted) + "  " + row.reference + "\n";
  return table;
}

std::string result_json(const Result& r) {
  return format_message(
      "{{\"task\":\"{}\",\"per\":{},\"wer\":{},\"words\":{},\"train_seconds\":{},\"target_tokens_per_second\":{},"
      "\"device\":\"{}\"}}",
      r.task, number_or_null(r.per, "{:.2f}"), number_or_null(r.wer, "{:.2f}"), r.words,
      number_or_null(r.train_seconds, "{:.1f}"), number_or_null(r.target_tokens_per_second, "{:.0f}"), r.device);
}

int run_evaluate(const Options& options) {
  const auto model = TrainedModel::load(options);
  const UsedWeights used(*model);
  const auto examples = load_test(model->options, model->codec);
  for (const Example& example : examples) check_length(example, *model, "evaluate");
  if (const int64_t unknown = count_unknown(examples, model->codec, false)) report_unknown(unknown);
  const auto [predictions, result] = predict_and_score(*model, examples, search_of(options));
  std::cout << sample_table(examples, predictions, model->codec.target_kind)
            << result_json({model->options.builtin_task() ? "g2p" : "tsv", libtrain::name(model->parameters.device()),
                            result.per, result.wer, result.words})
            << std::endl;
  check_stdout(std::cout);
  return 0;
}

int run_predict(const Options& options, std::FILE* in, std::ostream& out) {
  const auto model = TrainedModel::load(options);
  const UsedWeights used(*model);
  int64_t unknown = 0;
  std::vector<Example> waiting;
  const auto answer = [&] {
    const auto predictions = predict(*model, waiting, search_of(options));
    for (size_t i = 0; i < waiting.size(); ++i)
      out << (waiting[i].source_tokens.empty() ? "" : libtrain::detokenize(predictions[i], model->codec.target_kind))
          << "\n";
    out.flush();
    check_stdout(out);
    waiting.clear();
  };
  try {
    libtrain::for_each_text_line(in, "stdin", kMaxLineBytes, [&](std::string_view line, int64_t number) {
      waiting.push_back(source_of_line(line, number, *model));
      unknown += count_unknown({&waiting.back(), 1}, model->codec, false);
      if (int64_t(waiting.size()) == options.batch_lines) answer();
    });
  } catch (const DataError&) {
    answer();  // of the lines before the bad one
    throw;
  }
  answer();
  if (unknown > 0) report_unknown(unknown);
  return 0;
}

}  // namespace seq2seq
