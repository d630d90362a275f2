#include "libtrain/nn/transformer.h"

#include "catch.h"
#include "data/temporary_file.h"
#include "libtrain/libtrain.h"

namespace libtrain {
using test::message_of;

TEST_CASE("transformer: options that cannot be are named", "[nn]") {
  const auto refused = [](auto change) {
    TransformerOptions options{
        .source_vocab = 10, .target_vocab = 12, .layer = {.size = 8, .heads = 2, .feed_forward_size = 8}};
    change(options);
    Parameters parameters;
    return message_of<InvalidArgument>([&] { Transformer(parameters, options); });
  };
  using O = TransformerOptions;
  CHECK(refused([](O&) {}) == "no exception");
  CHECK(refused([](O& o) { o.source_vocab = 4; }) ==
        "[transformer] vocabularies must hold more than the 4 special tokens, got source_vocab 4 and target_vocab 12; "
        "Vocabulary::size() counts them");
  CHECK(refused([](O& o) { o.target_vocab = 0; }).find("target_vocab 0") != std::string::npos);
  CHECK(refused([](O& o) { o.encoder_layers = 0; }) ==
        "[transformer] expected at least one layer each, got encoder_layers 0 and decoder_layers 3; 3 is the default");
  CHECK(refused([](O& o) { o.decoder_layers = -1; }).find("decoder_layers -1") != std::string::npos);
  CHECK(refused([](O& o) { o.layer.heads = 3; }) ==
        "[transformer] size 8 does not divide into 3 heads; choose heads that divide it");
  CHECK(refused([](O& o) { o.layer.heads = 0; }) ==
        "[transformer] size 8 does not divide into 0 heads; choose heads that divide it");
  CHECK(refused([](O& o) { o.layer.size = 0; }) ==
        "[transformer] size 0 does not divide into 2 heads; choose heads that divide it");
  CHECK(refused([](O& o) { o.layer.feed_forward_size = 0; }) ==
        "[transformer] feed_forward_size must be > 0, got 0; two to four times the size is usual");
  CHECK(refused([](O& o) { o.layer.dropout = 1; }) ==
        "[transformer] dropout must be in [0, 1), got 1; 0 turns it off, 0.1 is usual");
  CHECK(refused([](O& o) { o.layer.dropout = NAN; }).find("dropout") != std::string::npos);
  CHECK(refused([](O& o) { o.label_smoothing = -0.5; }) ==
        "[transformer] label_smoothing must be in [0, 1), got -0.5; 0 turns it off, 0.1 is usual");
  CHECK(refused([](O& o) { o.max_positions = 0; }) ==
        "[transformer] max_positions must be > 0, got 0; it bounds the tokens of a sequence");
  CHECK(refused([](O& o) { o.tying = Tying::kAll; }) ==
        "[transformer] one table for both sides needs one vocabulary, got 10 source and 12 target ids; build one from "
        "both sides, or choose another tying");
}

TEST_CASE("transformer: dropout acts on the embeddings of both sides, in training mode under a tape alone", "[nn]") {
  Parameters parameters;
  // So much that nothing is kept: what follows sees zeros, whose norm is zero.
  Transformer model(parameters, {.source_vocab = 10,
                                 .target_vocab = 12,
                                 .layer = {.size = 8, .heads = 2, .feed_forward_size = 8, .dropout = 0.99999f}});
  const Tensor source = Tensor::from({4, 5, 2}), target = Tensor::from({1, 6});
  const Packing of_source = make_packing(std::vector<int64_t>{3}), of_target = make_packing(std::vector<int64_t>{2});
  const auto encoded = [&] { return model.encode(source, of_source).to_vector<float>(); };
  const Tensor memory = model.encode(source, of_source);
  const auto decoded = [&] { return model.decode(target, of_target, memory, of_source).to_vector<float>(); };
  const std::vector<float> whole_source = encoded(), whole_target = decoded();
  CHECK(whole_source != std::vector<float>(24, 0.0f));
  CHECK(whole_target != std::vector<float>(16, 0.0f));
  const Tape tape;
  CHECK(encoded() == std::vector<float>(24, 0.0f));
  CHECK(decoded() == std::vector<float>(16, 0.0f));
  model.train(false);
  CHECK(encoded() == whole_source);
  CHECK(decoded() == whole_target);
  model.train();
  CHECK(encoded() == std::vector<float>(24, 0.0f));
  CHECK(decoded() == std::vector<float>(16, 0.0f));
}

TEST_CASE("attention layer: heads must divide its width", "[nn]") {
  Parameters parameters;
  CHECK(message_of<InvalidArgument>([&] { MultiHeadAttention(parameters, "attention", 8, 3, 0); }) ==
        "[attention] size 8 does not divide into 3 heads; choose heads that divide it");
  CHECK(parameters.slots().empty());  // the name is free for the next attempt
}

TEST_CASE("greedy_decode: a source beyond the model's positions is refused by number", "[nn]") {
  Parameters parameters;
  const Transformer model(parameters,
                          {.source_vocab = 9, .target_vocab = 9, .layer = {.size = 8, .heads = 2}, .max_positions = 5});
  const std::vector<std::vector<int32_t>> fits{{4, 5, 6, 7}}, too_long{{4}, {4, 5, 6, 7, 8}};
  CHECK(greedy_decode(model, fits, 2).size() == 1);
  CHECK(message_of<InvalidArgument>([&] {
          greedy_decode(model, too_long, 2);
        }).find("[greedy_decode] source 1 has 5 ids, the model takes 4 and kEos") == 0);
}

TEST_CASE("packing: lengths and capacity that cannot be are refused", "[nn]") {
  const auto refused = [](std::vector<int64_t> lengths, int64_t capacity) {
    return message_of<InvalidArgument>([&] { make_packing(lengths, Device::kCpu, capacity); });
  };
  CHECK(refused({3, -1}, -1) ==
        "[packing] expected lengths in [0, 2147483647], got -1 for sequence 1; count its tokens");
  CHECK(refused({3, 2}, 4) == "[packing] 5 tokens do not fit a capacity of 4; without one, it is exact");
  CHECK(refused({3, 2}, 5) == "no exception");
}

}  // namespace libtrain
