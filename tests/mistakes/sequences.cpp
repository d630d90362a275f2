/// Mistakes with token ids, packed batches, attention, losses, vocabularies and pairs in memory.
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

Packing packing_of(std::initializer_list<int64_t> lengths) { return make_packing(std::vector<int64_t>(lengths)); }

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
      {"a capacity beyond 32 bits", kArgument, "rounded up to a multiple of 4294967296", "[batch] 2 source tokens",
       "use smaller batches",
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
      {"a sequence of negative length", kArgument, "got -2 for sequence 1", "[packing]", "count its tokens",
       [] {
         packing_of({3, -2});
       }},
      {"a capacity below the tokens", kArgument, "5 tokens do not fit a capacity of 4", "[packing]",
       "without one, it is exact",
       [] {
         make_packing(std::vector<int64_t>{3, 2}, Device::kCpu, 4);
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

std::vector<Mistake> attention_mistakes() {
  constexpr Kind kArgument = Kind::kInvalidArgument;
  const auto f32 = [](const Shape& shape) { return Tensor::zeros(shape); };
  const auto i32 = [](const Shape& shape) { return Tensor::zeros(shape, DType::i32); };
  const auto with_ends = [=](std::initializer_list<int32_t> ends) {
    Packing packing = packing_of({3, 2});
    packing.cu_seqlens = Tensor::from(ends, {int64_t(ends.size())});
    self_attention(f32({5, 12}), packing, {.heads = 2});
  };
  return {
      {"attention to a packing that is empty", kArgument, "packing is empty", "[self_attention]",
       "make_packing() makes one from lengths",
       [=] {
         self_attention(f32({5, 12}), {}, {});
       }},
      {"attention with rows of another packing", kArgument, "describes 3 tokens, got f32[5, 12]",
       "[self_attention] packing", "the packing that the rows were made with",
       [=] {
         self_attention(f32({5, 12}), packing_of({3}), {});
       }},
      {"attention whose sequences begin late", kArgument, "got 1", "packing.cu_seqlens must begin with 0",
       "from lengths",
       [=] {
         with_ends({1, 3, 5});
       }},
      {"attention whose sequences run backwards", kArgument, "sequence 1 is rows [3, 1)", "packing.cu_seqlens",
       "make_packing() makes them agree",
       [=] {
         with_ends({0, 3, 1});
       }},
      {"attention beyond the last row", kArgument, "sequence 1 is rows [3, 9) of 5", "[self_attention]",
       "make_packing() makes them agree",
       [=] {
         with_ends({0, 3, 9});
       }},
      {"attention to a longer sequence than was said", kArgument, "rows [0, 5) of 5, max_length is 3",
       "packing.cu_seqlens", "makes them agree",
       [=] {
         with_ends({0, 5, 5});
       }},
      {"attention to queries alone", kArgument, "got f32[5, 4]", "[self_attention] qkv", "reshape() or project it",
       [=] {
         self_attention(f32({5, 4}), packing_of({5}), {});
       }},
      {"heads that do not divide the width", kArgument, "the width 4, got 3", "[self_attention] heads",
       "another number of heads",
       [=] {
         self_attention(f32({5, 12}), packing_of({5}), {.heads = 3});
       }},
      {"attention that drops everything", kArgument, "got 1.5", "[self_attention] dropout.p", "0 turns it off",
       [=] {
         self_attention(f32({5, 12}), packing_of({5}), {.dropout = {.p = 1.5f}});
       }},
      {"causal attention across", kArgument, "positions of different sequences", "[cross_attention] cannot be causal",
       "leave .causal at false",
       [=] {
         cross_attention(f32({5, 4}), f32({5, 8}), packing_of({5}), packing_of({5}), {.causal = true});
       }},
      {"attention across to more sequences", kArgument, "queries have 1 sequences, keys 2", "[cross_attention]",
       "be it empty",
       [=] {
         cross_attention(f32({5, 4}), f32({5, 8}), packing_of({5}), packing_of({3, 2}), {});
       }},
      {"attention across to keys without values", kArgument, "got f32[5]", "[cross_attention] kv",
       "keys and values stand side by side",
       [=] {
         cross_attention(f32({5, 4}), f32({5}), packing_of({5}), packing_of({5}), {});
       }},

      {"an id that the table does not have", kArgument, "id 3 at row 1 is outside [0, 3)", "[embedding]",
       "encode the text with the model's own",
       [=] {
         embedding(Tensor::from({0, 3}, {2}), f32({3, 4}));
       }},
      {"an id of a matrix that the table does not have", kArgument, "id -1", "[embedding]",
       "row 1, position 0 is outside [0, 3)",
       [=] {
         embedding(Tensor::from({0, 1, -1, 2}, {2, 2}), f32({3, 4}));
       }},
      {"ids in floats", kArgument, "must be i32[2], got f32[2]", "[embedding] ids", "cast() converts",
       [=] {
         embedding(f32({2}), f32({3, 4}));
       }},
      {"a table of one dimension", kArgument, "got f32[3]", "[embedding] table", "reshape() it",
       [=] { embedding(i32({2}), f32({3})); }},
      {"padding that the table does not have", kArgument, "vocabulary of 3, got 3", "[embedding] pad_id", "kPad is 0",
       [=] {
         embedding(i32({2}), f32({3, 4}), 1, {}, {}, 3);
       }},
      {"positions without a table for them", kArgument, "got undefined and i32[2]", "[embedding] position_table",
       "pass both or neither",
       [=] {
         embedding(i32({2}), f32({3, 4}), 1, {}, i32({2}));
       }},
      {"positions of negative number", kArgument, "got -1 and 4", "[sinusoidal_positions]",
       "count positions and columns", [] { sinusoidal_positions(-1, 4); }},

      {"a target beyond the classes", kArgument, "target 7 at row 0, position 1", "[cross_entropy]",
       "encode with the vocabulary of the model",
       [=] {
         cross_entropy(f32({1, 2, 5}), Tensor::from({4, 7}, {1, 2}));
       }},
      {"a negative target that is not the ignored one", kArgument, "target -1 at position 0", "[linear_cross_entropy]",
       "is not ignore_index (-100)",
       [=] {
         linear_cross_entropy(f32({1, 4}), f32({5, 4}), {}, Tensor::from({-1}, {1}));
       }},
      {"targets for other rows", kArgument, "must be i32[2], got i32[3]", "[cross_entropy] targets",
       "its sizes must agree",
       [=] {
         cross_entropy(f32({2, 5}), i32({3}));
       }},
      {"no classes", kArgument, "got 0", "[cross_entropy] expected at least one class", "the last dimension",
       [=] {
         cross_entropy(f32({2, 0}), i32({2}));
       }},
      {"smoothing everything", kArgument, "got 1", "[cross_entropy] label_smoothing", "0.1 is usual",
       [=] {
         cross_entropy(f32({2, 5}), i32({2}), -100, 1);
       }},
      {"logits without classes", kArgument, "got f32[]", "[cross_entropy] logits", "the last dimension is the classes",
       [=] { cross_entropy(f32({}), i32({})); }},
      {"a weight times itself", kArgument, "are one tensor", "[linear_cross_entropy] x and weight",
       "use cross_entropy(linear(x, weight), targets)",
       [=] {
         const Tensor both = f32({4, 4});
         linear_cross_entropy(both, both, {}, i32({4}));
       }},
      {"chunks of nothing", kArgument, "got 0", "[linear_cross_entropy] chunk_elements", "2^22 is the default",
       [=] {
         linear_cross_entropy(f32({1, 4}), f32({5, 4}), {}, i32({1}), -100, 0, 0);
       }},
      {"the mean of losses that were not summed", kArgument, "got f32[2]", "[token_loss] sum", "sum() reduces",
       [=] {
         TokenLoss{f32({2}), Tensor::zeros({}, DType::i64)}.mean();
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
  for (auto* table : {attention_mistakes, vocabulary_mistakes})
    for (Mistake& mistake : table()) all.push_back(std::move(mistake));
  return all;
}

}  // namespace libtrain::testing
