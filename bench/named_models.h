/// The models of compare_pytorch.py, under the same names.
#pragma once
#include <map>
#include <string>

#include "libtrain/libtrain.h"

namespace libtrain::bench {

inline TransformerOptions large(int64_t size, int64_t heads) {
  return {.source_vocab = 32000,
          .target_vocab = 32000,
          .encoder_layers = 6,
          .decoder_layers = 6,
          .layer = {.size = size, .heads = heads, .feed_forward_size = 4 * size}};
}

inline TransformerOptions named_model(const std::string& config) {
  const std::map<std::string, TransformerOptions> models{
      {"g2p", {.source_vocab = 32, .target_vocab = 48, .layer = {.size = 128, .heads = 4, .feed_forward_size = 512}}},
      {"tiny",
       {.source_vocab = 10000,
        .target_vocab = 10000,
        .encoder_layers = 4,
        .decoder_layers = 4,
        .layer = {.size = 128, .heads = 4, .feed_forward_size = 256}}},
      {"small",
       {.source_vocab = 8000, .target_vocab = 8000, .layer = {.size = 256, .heads = 4, .feed_forward_size = 1024}}},
      {"base", large(512, 8)},
      {"big", large(1024, 16)}};
  LIBTRAIN_CHECK(models.contains(config), "config must be g2p, tiny, small, base or big, got '{}'", config);
  return models.at(config);
}

}  // namespace libtrain::bench
