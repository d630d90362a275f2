/// Mistakes with token ids, packed batches and vocabularies.
#include "mistakes/mistakes.h"

namespace libtrain::testing {
namespace {

constexpr int64_t kVocab = 9;

struct Model {
  Parameters parameters;
  Transformer transformer{parameters,
                          {.source_vocab = kVocab,
                           .target_vocab = kVocab,
                           .encoder_layers = 1,
                           .decoder_layers = 1,
                           .layer = {.size = 4, .heads = 2, .feed_forward_size = 4},
                           .max_positions = 4}};
};

Batch small_batch() { return make_batch(std::vector<Pair>{{{4, 5}, {6}}, {{7}, {8, 4}}}, {.capacity_multiple = 8}); }

/// The loss of small_batch() after something was done to it.
std::function<void()> loss_of(const std::function<void(Batch&)>& spoil) {
  return [spoil] {
    Batch batch = small_batch();
    spoil(batch);
    Model().transformer.loss(batch);
  };
}

Tensor with(const Tensor& ids, size_t at, int32_t value) {
  auto values = ids.to_vector<int32_t>();
  values[at] = value;
  return Tensor::from(std::span<const int32_t>(values), ids.shape());
}

void pack(const std::vector<Pair>& pairs, const BatchOptions& options = {}) {
  make_batch(std::span<const Pair>(pairs), options);
}

std::vector<Mistake> batch_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  const auto i32 = [](const Shape& shape) { return Tensor::zeros(shape, DType::i32); };
  return {
      {"a source id beyond the vocabulary", kArgument, "source token id 9", "[batch]",
       "encode the text with the model's",
       [] {
         pack({{{4, 9}, {5}}}, {.source_vocab = 9});
       }},
      {"a target id beyond the vocabulary, with its place", kArgument, "target token id 40 ", "at row 1, position 0",
       "the model's own vocabulary",
       [] {
         pack({{{4}, {5}}, {{4}, {40}}}, {.target_vocab = 9});
       }},
      {"padding within a text", kArgument, "id 0 at row 0, position 1 is reserved", "[batch] target", "encode the text",
       [] {
         pack({{{4}, {5, kPad}}});
       }},
      {"a beginning within a text", kArgument, "id 1 at row 0, position 0 is reserved", "[batch] source",
       "encode the text",
       [] {
         pack({{{kBos}, {5}}});
       }},
      {"an end within a text", kArgument, "id 2 at row 0, position 1 is the end", "[batch] source",
       "leave it out, it is added",
       [] {
         pack({{{4, kEos}, {5}}}, {.source_vocab = 9});
       }},
      {"a negative id without a vocabulary", kArgument, "id -7 at row 0, position 0 is negative", "[batch] source",
       "encode the text",
       [] {
         pack({{{-7}, {5}}});
       }},
      {"a null pointer for a pair", kArgument, "null pointer at row 0", "[batch]", "leave it out",
       [] {
         const Pair* none = nullptr;
         make_batch(std::span(&none, 1));
       }},
      {"a capacity in multiples of nothing", kArgument, "got 0", "[batch] capacity_multiple", "1 is exact",
       [] {
         pack({{{4}, {5}}}, {.capacity_multiple = 0});
       }},
      {"a capacity beyond 32 bits", kArgument, "got 4294967296", "[batch] capacity_multiple", "counted in 32 bits",
       [] {
         pack({{{4}, {5}}}, {.capacity_multiple = int64_t(1) << 32});
       }},
      {"sources and targets of different number", kArgument, "2 sources but 3 targets", "[pack_padded]",
       "one row on either side",
       [=] {
         pack_padded(i32({2, 4}), i32({3, 4}));
       }},
      {"padded ids as floats", kArgument, "got f32[2, 4]", "[pack_padded] input_ids", "cast() and reshape() convert",
       [=] {
         pack_padded(Tensor::zeros({2, 4}), i32({2, 4}));
       }},
      {"padded ids without rows", kArgument, "got i32[4]", "[pack_padded] target_ids", "cast() and reshape()",
       [=] {
         pack_padded(i32({2, 4}), i32({4}));
       }},
      {"sources that are padded on the left", kArgument, "id 0 at row 1, position 0 is padding before a token",
       "[pack_padded] input_ids", "fill them up behind the last",
       [] {
         Model().transformer(Tensor::from({4, 5, 2, 0, 6, 2}, {2, 3}), Tensor::from({4, 2, 5, 2}, {2, 2}));
       }},
      {"padding between labels", kArgument, "id 0 at row 0, position 1 is padding before a token",
       "[pack_padded] target_ids", "begin rows with their tokens",
       [] {
         pack_padded(Tensor::from({4, 2}, {1, 2}), Tensor::from({4, 0, 2, 0}, {1, 4}));
       }},
      {"labels that begin with a beginning", kArgument, "id 1 at row 1, position 0 is kBos", "[pack_padded] target_ids",
       "leave it out, it is put before the labels",
       [] {
         Model().transformer(Tensor::from({4, 2, 5, 2}, {2, 2}), Tensor::from({4, 2, 0, 1, 4, 2}, {2, 3}));
       }},
      {"a sequence of negative length", kArgument, "got -2 for sequence 1", "[packing]", "count its tokens",
       [] {
         packing_of({3, -2});
       }},
      {"a capacity below the tokens", kArgument, "5 tokens do not fit a capacity of 4", "[packing]",
       "without one, it is exact",
       [] {
         make_packing(std::vector<int64_t>{3, 2}, Device::kCpu, 4);
       }},
      {"a capacity of less than no rows", kArgument, "5 tokens do not fit a capacity of -2", "[packing]",
       "without one, it is exact",
       [] {
         make_packing(std::vector<int64_t>{3, 2}, Device::kCpu, -2);
       }},
      {"batches of capacities that nothing is a multiple of", kArgument, "capacity_multiple must be >= 1, got 0",
       "[batch]", "1 is exact",
       [] {
         const std::vector<Pair> pairs{{{4, 5}, {6}}};
         BucketedBatches batches(pairs, {.pairs = 4, .batch = {.capacity_multiple = 0}});
       }},
      {"decoding beyond the model's positions", kArgument, "max_length must be in [0, 4), got 4", "[greedy_decode]",
       "of which kBos takes one",
       [] {
         const std::vector<std::vector<int32_t>> sources{{4, 5}};
         greedy_decode(Model().transformer, sources, 4);
       }},
      {"keys and values of a layer that is not there", kArgument, "layer 1 is none of the 1", "[memory_projections]",
       "they count from 0",
       [] {
         const MemoryProjections projections(Tensor::zeros({3, 4}), {Tensor::zeros({12, 4})}, {});
         projections.keys_values(1);
       }},
      {"more tokens than 32 bits count", kArgument, "4294967294 tokens", "[packing]", "use smaller batches",
       [] {
         packing_of({INT32_MAX, INT32_MAX});
       }},
      {"unpacking into too little room", kArgument, "longest 1 is below the 3", "[unpack_index]",
       "pass packing.max_length or more",
       [] {
         unpack_index(packing_of({3, 2}), 1);
       }},

      {"a batch whose source id is another model's", kArgument, "id 200 at row 1, position 0", "[batch] source_ids",
       "the model's own vocabulary", loss_of([](Batch& b) { b.source_ids = with(b.source_ids, 3, 200); })},
      {"a batch with a negative label", kArgument, "id -100 at row 0, position 1", "[batch] target_out",
       "encode the text", loss_of([](Batch& b) { b.target_out = with(b.target_out, 1, -100); })},
      {"a batch with something in its tail", kArgument, "id 4 at position 0 of the tail", "[batch] target_in",
       "make_batch() fills it up", loss_of([](Batch& b) { b.target_in = with(b.target_in, 5, 4); })},
      {"a batch with shifted labels", kArgument, "must be i32[8], got i32[7]", "[batch] target_out",
       "its sizes must agree", loss_of([](Batch& b) { b.target_out = b.target_out.rows(1, 8); })},
      {"a batch with ids in 64 bits", kArgument, "got i64[8]", "[batch] source_ids", "cast() converts",
       loss_of([](Batch& b) { b.source_ids = Tensor::zeros({8}, DType::i64); })},
      {"a batch without anything", kArgument, "the packing of source is empty", "[batch]", "makes a whole batch",
       [] { Model().transformer.loss(Batch()); }},
      {"a batch of fewer targets than sources", kArgument, "cu_seqlens for 2 sources and 1 targets", "[batch] 2 pairs",
       "makes a whole batch", loss_of([](Batch& b) {
         b.target.cu_seqlens = Tensor::from({0, 2}, {2});
       })},
      {"a batch whose counts are of another", kArgument, "source_tokens 99", "[batch]", "makes a whole batch",
       loss_of([](Batch& b) { b.source_tokens = 99; })},
      {"a batch whose sequences overlap", kArgument, "at position 1 is 9, expected 0 to 3", "source.cu_seqlens",
       "from lengths", loss_of([](Batch& b) { b.source.cu_seqlens = with(b.source.cu_seqlens, 1, 9); })},
      {"a batch whose positions are of another", kArgument, "at row 0, position 1 is 3", "[batch] target.positions",
       "from lengths", loss_of([](Batch& b) { b.target.positions = with(b.target.positions, 1, 3); })},
      {"a batch whose rows change their sequence", kArgument, "at row 1, position 1 is 5", "target.sequences",
       "from lengths", loss_of([](Batch& b) { b.target.sequences = with(b.target.sequences, 3, 5); })},
      {"a sequence longer than the model has positions", kArgument, "position 4 at row 4 is outside [0, 4)",
       "[embedding]", "raise max_positions",
       [] {
         Model().transformer.loss(make_batch(std::vector<Pair>{{{4, 4, 4, 4, 4}, {5}}}));
       }},
      {"looking into a batch that was spoilt", kArgument, "begin with 0, got 3", "source_ids.cu_seqlens",
       "from lengths",
       [] {
         Batch batch = small_batch();
         batch.source.cu_seqlens = with(batch.source.cu_seqlens, 0, 3);
         batch.input_ids();
       }},
      {"a textbook call with another model's ids", kArgument, "id 77 at row 1, position 2", "target_in",
       "the model's own vocabulary",
       [] {
         Model().transformer(Tensor::from({4, 2, 0, 4, 5, 2}, {2, 3}), Tensor::from({4, 2, 0, 4, 77, 2}, {2, 3}));
       }},
  };
}

std::vector<Mistake> vocabulary_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  const auto list = [](const std::string& token) {
    return std::vector<std::string>{"<pad>", "<s>", "</s>", "<unk>", token};
  };
  return {
      {"a vocabulary without special tokens", kArgument, "got 'a'", "[Vocabulary] expected '<pad>' as token 0",
       "the list that tokens() gave",
       [] {
         Vocabulary({"a", "b", "c", "d", "e"});
       }},
      {"a vocabulary without room for a token", kArgument, "max_size must be > 4, for as many tokens are special",
       "[Vocabulary]", "or 0 (no limit)", [] { Vocabulary::build({{"a"}}, {.max_size = 4}); }},
      {"a vocabulary of tokens that come no times", kArgument, "got 0", "[Vocabulary]", "min_count must be >= 1",
       [] { Vocabulary::build({{"a"}}, {.min_count = 0}); }},
      {"a vocabulary of two tokens", kArgument, "got 2 tokens", "[Vocabulary]", "build() makes a vocabulary",
       [] {
         Vocabulary({"<pad>", "<s>"});
       }},
      {"a vocabulary with an empty token", kArgument, "an empty token 4", "[Vocabulary]", "drop it",
       [=] { Vocabulary(list("")); }},
      {"a vocabulary with a special token again", kArgument, "got '<s>' again as token 4", "[Vocabulary]",
       "drop the second", [=] { Vocabulary(list("<s>")); }},
      {"a vocabulary with a token twice", kArgument, "got 'x' as token 4 and token 5", "[Vocabulary]",
       "drop the second",
       [=] {
         Vocabulary({"<pad>", "<s>", "</s>", "<unk>", "x", "x"});
       }},
      {"a vocabulary in Latin-1", kArgument, "a bad byte at offset 1 of token 4", "[Vocabulary]",
       "convert the text to UTF-8", [=] { Vocabulary(list("a\xff")); }},
      {"an id of a larger vocabulary", kArgument, "expected an id in [0, 4), got 40", "[Vocabulary::token]",
       "decode with the vocabulary that encoded", [] { Vocabulary().decode(std::vector<int32_t>{40}); }},
      {"tokens of a text in Latin-1", Kind::kDataError, "byte 0xE9 at offset 3", "[tokenize]", "convert the text",
       [] { tokenize("caf\xe9", TokenKind::kChars); }},
  };
}

}  // namespace

std::vector<Mistake> sequence_mistakes() {
  std::vector<Mistake> all = batch_mistakes();
  for (Mistake& mistake : vocabulary_mistakes()) all.push_back(std::move(mistake));
  return all;
}

}  // namespace libtrain::testing
