/// Bad batches through the public API, while a model trains: bad_batches [COUNT] [SEED]
///
/// Each is made from a good batch by one corruption: ids, lengths, cu_seqlens, positions, dtypes, shapes, devices. It must be refused with
/// InvalidArgument, and the message must name the value and its place. Training goes on in between in the same process, corrupted batches within
/// its own steps included, and must end with the bits of a run that met none. A corruption that changes nothing is planted as a control: it must
/// be noticed as one that was not refused. Prints one line of counts; exit status 0 when all of this holds.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>

#include "trust/corruptor.h"

namespace libtrain::testing {
namespace {

std::string at(const char* what, int64_t number) { return format_message("{} {}", what, number); }

Tensor vector_of(const Ids& values) { return Tensor::from(std::span<const int32_t>(values), {int64_t(values.size())}); }

/// The same with another value at `place`.
Tensor changed(const Tensor& tensor, size_t place, int32_t value) {
  Ids values = tensor.to_vector<int32_t>();
  values[place] = value;
  return vector_of(values).reshape(tensor.shape());
}

/// Uses a batch in one of the ways there are.
std::function<void()> use_of(Corruptor& c, const Batch& batch) {
  const Transformer& model = c.model();
  if (c.below(2)) return [batch, &model] { model(batch); };
  return [batch, &model] { model.loss(batch); };
}

// ---- Pairs and padded ids -----------------------------------------------------------------------------------------------

Attempt bad_pair(Corruptor& c) {
  auto pairs = c.some_pairs();
  const size_t row = c.below(pairs.size());
  Ids& side = c.below(2) ? pairs[row].source : pairs[row].target;
  const size_t position = c.below(side.size());
  const int32_t id = side[position] = c.below(4) ? c.bad_id() : c.one_of(Ids{kPad, kBos, kEos});
  const char* name = &side == &pairs[row].source ? "source token id" : "target token id";
  return {[pairs] { make_batch(std::span<const Pair>(pairs), {.source_vocab = kToyVocab, .target_vocab = kToyVocab}); },
          {at(name, id), format_message("row {}, position {}", row, position)}};
}

Attempt bad_padded(Corruptor& c) {
  const Batch batch = c.good_batch();
  Tensor inputs = batch.input_ids(), labels = batch.target_ids();
  Tensor& side = c.below(2) ? inputs : labels;
  const Ids values = side.to_vector<int32_t>();
  size_t place = c.below(values.size());
  while (values[place] == kPad) place = c.below(values.size());
  const bool reserved = values[place] != kEos && c.below(4) == 0;
  const int32_t id = !reserved ? c.bad_id() : &side == &inputs ? kPad : c.one_of(Ids{kPad, kBos});
  const auto width = uint64_t(side.dim(1));
  side = changed(side, place, id);
  const Transformer& model = c.model();
  std::vector<std::string> expected{at("id", id), at("row", int64_t(place / width))};
  // In labels, what is no id is met twice, first by the decoder's input, one position on.
  if (reserved || &side == &inputs) expected.push_back(at("position", int64_t(place % width)));
  return {[=, &model] { model(inputs, labels); }, expected};
}

Attempt bad_padded_form(Corruptor& c) {
  const Batch batch = c.good_batch();
  const Tensor inputs = batch.input_ids(), labels = batch.target_ids();
  switch (c.below(3)) {
    case 0:
      return {[=] { pack_padded(inputs.reshape({-1}), labels); }, {"input_ids", inputs.reshape({-1}).spec()}};
    case 1:
      return {[=] { pack_padded(inputs, labels.cast(DType::f32)); }, {"target_ids", labels.cast(DType::f32).spec()}};
    default:
      return {[=] {
                pack_padded(inputs, Tensor::zeros({labels.dim(0) + 1, 2}, DType::i32));
              },
              {at("", inputs.dim(0)) + " sources", at("but", labels.dim(0) + 1)}};
  }
}

// ---- Whole batches --------------------------------------------------------------------------------------------------------

Attempt bad_batch_id(Corruptor& c) {
  Batch batch = c.good_batch();
  struct Field {
    const char* name;
    Tensor Batch::*ids;
    Packing Batch::*packing;
  };
  const Field field = c.one_of(std::vector<Field>{{"source_ids", &Batch::source_ids, &Batch::source},
                                                  {"target_in", &Batch::target_in, &Batch::target},
                                                  {"target_out", &Batch::target_out, &Batch::target}});
  const Packing& packing = batch.*field.packing;
  const Ids ends = packing.cu_seqlens.to_vector<int32_t>();
  const auto place = int32_t(c.below(uint64_t(ends.back())));
  const auto row = std::ranges::upper_bound(ends, place) - ends.begin() - 1;
  const int32_t id = c.bad_id();
  batch.*field.ids = changed(batch.*field.ids, size_t(place), id);
  return {use_of(c, batch),
          {field.name, at("id", id), format_message("row {}, position {}", row, place - ends[size_t(row)])}};
}

Attempt bad_tail(Corruptor& c) {
  Batch batch = make_batch(std::span<const Pair>(c.some_pairs()), {.capacity_multiple = 64});
  const auto tail = int64_t(c.below(uint64_t(batch.target.tokens() - batch.target_tokens)));
  const int32_t id = int32_t(1 + c.below(1000));
  batch.target_out = changed(batch.target_out, size_t(batch.target_tokens + tail), id);
  return {use_of(c, batch), {"target_out", at("id", id), at("position", tail) + " of the tail"}};
}

/// Any of the four numbers of a packing, where a change of it breaks the packing.
Attempt bad_packing(Corruptor& c) {
  Batch batch = c.good_batch();
  Packing& packing = c.below(2) ? batch.source : batch.target;
  const std::string name = &packing == &batch.source ? "source" : "target";
  const Ids ends = packing.cu_seqlens.to_vector<int32_t>();
  const auto row = int32_t(c.below(uint64_t(ends.back())));
  const auto sequence = std::ranges::upper_bound(ends, row) - ends.begin() - 1;
  const auto any = int32_t(uint32_t(c.random()()));
  const size_t place = c.below(ends.size());
  switch (c.below(3)) {
    case 0: {  // a value that no neighbour allows
      const int32_t bad = place == 0 ? (any ? any : 1) : any < 0 ? any : int32_t(packing.tokens() + 1 + any % 1000);
      packing.cu_seqlens = changed(packing.cu_seqlens, place, bad);
      return {use_of(c, batch), {name + ".cu_seqlens", std::to_string(bad)}};
    }
    case 1: {
      const int32_t was = packing.positions.to_vector<int32_t>()[size_t(row)], bad = any == was ? -1 : any;
      packing.positions = changed(packing.positions, size_t(row), bad);
      return {use_of(c, batch),
              {name + ".positions", at("is", bad),
               format_message("row {}, position {}", sequence, row - ends[size_t(sequence)])}};
    }
    default:
      packing.max_length = int64_t(c.below(uint64_t(packing.max_length)));
      return {use_of(c, batch), {name + ".cu_seqlens"}};
  }
}

Attempt bad_batch_form(Corruptor& c) {
  Batch batch = c.good_batch();
  Tensor Batch::*field =
      c.one_of(std::vector<Tensor Batch::*>{&Batch::source_ids, &Batch::target_in, &Batch::target_out});
  Tensor& ids = batch.*field;
  const std::string name = field == &Batch::source_ids  ? "source_ids"
                           : field == &Batch::target_in ? "target_in"
                                                        : "target_out";
  switch (c.below(5)) {
    case 0:
      ids = ids.cast(c.one_of(std::vector<DType>{DType::f32, DType::i64, DType::f64, DType::bf16}));
      break;
    case 1:
      ids = ids.rows(0, ids.dim(0) - 1);
      break;
    case 2:
      ids = ids.reshape({1, -1});
      break;
    case 3:
      ids = Tensor();
      break;
    default:
      batch.target.cu_seqlens = batch.target.cu_seqlens.rows(0, batch.target.count());
      return {use_of(c, batch), {"cu_seqlens", at("and", batch.target.count()) + " targets"}};
  }
  return {use_of(c, batch), {name, "got " + ids.spec()}};
}

Attempt spoilt_look(Corruptor& c) {
  Batch batch = c.good_batch();
  const Ids ends = batch.target.cu_seqlens.to_vector<int32_t>();
  const size_t place = 1 + c.below(ends.size() - 1);
  const int32_t bad =
      c.below(2) ? -1 - int32_t(c.below(1u << 30)) : int32_t(batch.target.tokens() + 1 + int64_t(c.below(1u << 30)));
  batch.target.cu_seqlens = changed(batch.target.cu_seqlens, place, bad);
  const std::vector<std::string> expected{"cu_seqlens", at("position", int64_t(place)), at("is", bad)};
  if (c.below(2)) return {[batch] { batch.target_ids(); }, expected};
  return {[batch] { unpack_index(batch.target, batch.target.max_length); }, expected};
}

// ---- Single operations ----------------------------------------------------------------------------------------------------

Attempt bad_lengths(Corruptor& c) {
  std::vector<int64_t> lengths(1 + c.below(8));
  for (int64_t& length : lengths) length = int64_t(c.below(6));
  const size_t s = c.below(lengths.size());
  lengths[s] = c.below(2) ? -1 - int64_t(c.below(1ull << 62)) : (int64_t(1) << 31) + int64_t(c.below(1ull << 60));
  return {[lengths] { make_packing(lengths); }, {at("sequence", int64_t(s)), at("got", lengths[s])}};
}

Attempt bad_lookup(Corruptor& c) {
  const int64_t rows = int64_t(1 + c.below(20)), vocab = int64_t(1 + c.below(14));
  Ids ids(static_cast<size_t>(rows));
  for (int32_t& id : ids) id = int32_t(c.below(uint64_t(vocab)));
  const size_t row = c.below(ids.size());
  ids[row] = c.bad_id();
  if (ids[row] >= 0 && ids[row] < vocab) ids[row] = -1;
  const Tensor table = Tensor::zeros({vocab, 3}), values = vector_of(ids);
  const std::vector<std::string> expected{std::to_string(ids[row]), std::to_string(row)};
  switch (c.below(3)) {
    case 0:
      return {[=] { embedding(values, table); }, {at("id", ids[row]), at("row", int64_t(row))}};
    case 1:
      return {[=] { index_select(table, values); }, {at("index", ids[row]), at("position", int64_t(row))}};
    default:
      return {[=] {
                cross_entropy(Tensor::zeros({rows, vocab}), values, -7);
              },
              {at("target", ids[row]), at("position", int64_t(row))}};
  }
}

Attempt bad_attention(Corruptor& c) {
  std::vector<int64_t> lengths(1 + c.below(5));
  for (int64_t& length : lengths) length = int64_t(1 + c.below(5));
  Packing packing = make_packing(lengths);
  const Tensor qkv = Tensor::zeros({packing.tokens(), 12});
  const auto any = int32_t(uint32_t(c.random()()));
  const size_t place = c.below(lengths.size() + 1);
  const int32_t bad = place == 0 ? (any ? any : 1) : any < 0 ? any : int32_t(packing.tokens() + 1 + any % 100000);
  packing.cu_seqlens = changed(packing.cu_seqlens, place, bad);
  const auto call = [=, across = c.below(2) == 1] {
    if (!across) return void(self_attention(qkv, packing, {.heads = 2}));
    const Tensor q = Tensor::zeros({packing.tokens(), 4}), kv = Tensor::zeros({packing.tokens(), 8});
    cross_attention(q, kv, make_packing(lengths), packing, {.heads = 2});
  };
  if (place == 0) return {call, {"cu_seqlens must begin with 0", at("got", bad)}};
  return {call, {"cu_seqlens", at("sequence", int64_t(place) - 1), std::to_string(bad)}};
}

using Maker = Attempt (*)(Corruptor&);
const std::vector<std::pair<const char*, Maker>> kMakers{
    {"pairs", bad_pair},      {"padded ids", bad_padded}, {"padded form", bad_padded_form}, {"batch ids", bad_batch_id},
    {"tails", bad_tail},      {"packings", bad_packing},  {"batch form", bad_batch_form},   {"looks", spoilt_look},
    {"lengths", bad_lengths}, {"lookups", bad_lookup},    {"attention", bad_attention}};

// ---- The campaign -----------------------------------------------------------------------------------------------------------

/// Whether the text stands in the message, and does not go on there with a digit.
bool holds(const std::string& message, const std::string& text) {
  for (size_t at = 0; (at = message.find(text, at)) != std::string::npos; ++at)
    if (at + text.size() == message.size() || !std::isdigit(uint8_t(message[at + text.size()]))) return true;
  return false;
}

/// What is wrong with the answer to an attempt, or "".
std::string fault_of(const char* name, const Attempt& attempt) {
  try {
    attempt.call();
  } catch (const InvalidArgument& error) {
    const std::string message = error.what();
    for (const std::string& text : attempt.expected)
      if (!holds(message, text)) return format_message("{}: expected '{}' in: {}", name, text, message);
    return "";
  } catch (const std::exception& error) {
    return format_message("{}: another kind of error: {}", name, error.what());
  }
  return format_message("{}: was not refused; expected {}", name, attempt.expected.front());
}

enum class Spoil { kNothing, kLoudly, kSilently };

/// Batches of a run, of which every other is spoilt at its first use: the step fails, and is done again. Silently, as a control: to another label
/// that is as good.
struct SpoiltBatches : BatchSource<Batch> {
  SpoiltBatches(std::span<const Pair> pairs, Spoil how) : good(pairs, {.pairs = 8}), spoil(how) {}
  int64_t begin_epoch(int64_t epoch) override { return good.begin_epoch(epoch); }
  Batch get(int64_t index) override {
    Batch batch = good.get(index);
    const int32_t label = spoil == Spoil::kLoudly ? int32_t(kToyVocab + asked) : kSpecialTokens;
    if (spoil != Spoil::kNothing && (++asked % 2)) batch.target_out = changed(batch.target_out, 0, label);
    return batch;
  }
  BucketedBatches good;
  Spoil spoil;
  int asked = 0;
};

constexpr int64_t kSteps = 48;

/// Trains, with `between` after each step; spoilt steps are refused on top. Weights and the number of those.
std::pair<std::vector<double>, int64_t> trained(Spoil how, const std::function<void(int64_t)>& between) {
  const auto pairs = reversal_pairs(64, 3);
  Parameters parameters({.seed = 5});
  Transformer model(parameters, toy_options(0.2f));
  SpoiltBatches batches(pairs, how);
  TrainLoop loop(parameters, batches, [&](const Batch& batch) { return model.loss(batch); },
                 {.epochs = kSteps / 8, .clip_norm = 1});
  int64_t refused = 0;
  while (!loop.complete()) {
    try {
      loop.step();
      between(loop.state().steps);
    } catch (const InvalidArgument&) {
      ++refused;
    }
  }
  return {parameters.values().cast(DType::f64).to_vector<double>(), refused};
}

int run(int64_t count, uint64_t seed) {
  Corruptor corruptor(seed);
  std::map<std::string, int64_t> refused;
  std::vector<std::string> faults;
  int64_t made = 0;
  const auto some = [&](int64_t step) {
    for (; made < count * step / kSteps; ++made) {
      const auto& [name, maker] = corruptor.one_of(kMakers);
      const std::string fault = fault_of(name, maker(corruptor));
      fault.empty() ? void(++refused[name]) : faults.push_back(fault);
    }
  };
  const auto calm = trained(Spoil::kNothing, [](int64_t) {}).first;
  const auto [weights, steps] = trained(Spoil::kLoudly, some);
  const bool same = weights == calm;
  const Batch good = corruptor.good_batch();
  const bool control = trained(Spoil::kSilently, [](int64_t) {}).first != calm &&
                       !fault_of("planted", {use_of(corruptor, good), {"refused"}}).empty() &&
                       !fault_of("planted", {[] { make_packing(std::vector<int64_t>{-1}); }, {"sequence 1"}}).empty();

  std::string kinds;
  for (const auto& [name, number] : refused)
    kinds += format_message("{}{} {}", kinds.empty() ? "" : ", ", name, number);
  std::printf(
      "%ld bad batches (%s): %zu wrongly answered; %ld steps of training refused among them, weights %s; controls %s\n",
      long(made), kinds.c_str(), faults.size(), long(steps), same ? "equal to a calm run's" : "DIFFER",
      control ? "noticed" : "MISSED");
  for (size_t i = 0; i < std::min<size_t>(faults.size(), 10); ++i) std::printf("FAILED %s\n", faults[i].c_str());
  return faults.empty() && same && control && made == count && steps > 0 && refused.size() == kMakers.size() ? 0 : 1;
}

}  // namespace
}  // namespace libtrain::testing

int main(int argc, char** argv) {
  const long count = argc > 1 ? std::atol(argv[1]) : 20'000, seed = argc > 2 ? std::atol(argv[2]) : 1;
  return libtrain::testing::run(count, uint64_t(seed));
}
