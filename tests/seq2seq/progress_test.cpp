#include "examples/seq2seq/progress.h"

#include <algorithm>
#include <cmath>

#include "catch.h"
#include "examples/seq2seq/evaluate.h"

namespace seq2seq {
namespace {

const Progress kMiddle{1800, 4000, 1, 0.4123, 1.1e-3, 0.614, 21034.4, 47.2};

int columns(const std::string& text) {
  return int(std::ranges::count_if(text, [](char c) { return (uint8_t(c) & 0xC0) != 0x80; }));
}

TEST_CASE("progress: one plain line") {
  CHECK(render_line(kMiddle) ==
        "epoch 1  update 1,800/4,000  loss 0.412  norm 0.61  lr 1.1e-03  21,034 tok/s  0:47 left");
}

TEST_CASE("progress: a loss that is no number has no sign") {
  Progress lost = kMiddle;
  lost.loss = lost.gradient_norm = std::copysign(NAN, -1.0);
  CHECK(render_line(lost) == "epoch 1  update 1,800/4,000  loss nan  norm nan  lr 1.1e-03  21,034 tok/s  0:47 left");
  CHECK(render_bar(lost, 80).find("  loss nan  ") != std::string::npos);
}

TEST_CASE("progress: the bar on 80 columns") {
  CHECK(render_bar(kMiddle, 80) == " 45% ━━━━━━╌╌╌╌╌╌╌  1,800/4,000  loss 0.412  lr 1.1e-03  21,034 tok/s  0:47 left");
  CHECK(columns(render_bar(kMiddle, 80)) == 80);
}

TEST_CASE("progress: the bar never exceeds the terminal, whatever its width") {
  for (int width = 0; width < 200; ++width) {
    const std::string bar = render_bar(kMiddle, width);
    CAPTURE(width, bar);
    REQUIRE(columns(bar) <= width);
    REQUIRE((bar.find("╌") != std::string::npos) == (width >= 75));  // it vanishes rather than shrink below 8
    if (width >= 67) REQUIRE(bar.find("0:47 left") != std::string::npos);
  }
  CHECK(columns(render_bar(kMiddle, 199)) == columns(render_bar(kMiddle, 150)));
}

TEST_CASE("progress: the bar is empty before the first update and full after the last") {
  const auto count = [](const std::string& text, const std::string& part) {
    int found = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++found;
    return found;
  };
  Progress progress = kMiddle;
  progress.update = 0;
  CHECK(count(render_bar(progress, 120), "━") == 0);
  CHECK(render_bar(progress, 120).find("  0%") == 0);
  progress.update = progress.updates;
  CHECK(count(render_bar(progress, 120), "╌") == 0);
  CHECK(render_bar(progress, 120).find("100%") == 0);
  progress.updates = 0;
  CHECK(render_bar(progress, 120).find("  0%") == 0);
}

TEST_CASE("progress: numbers and times") {
  CHECK(with_commas(0) == "0");
  CHECK(with_commas(999) == "999");
  CHECK(with_commas(1000) == "1,000");
  CHECK(with_commas(1234567) == "1,234,567");
  CHECK(with_commas(-123) == "-123");
  CHECK(with_commas(-1234) == "-1,234");
  CHECK(counted(1, "epoch") == "1 epoch");
  CHECK(counted(0, "pair") == "0 pairs");
  CHECK(counted(2000, "mini-batch") == "2,000 mini-batches");
  CHECK(as_clock(0) == "0:00");
  CHECK(as_clock(59.6) == "1:00");
  CHECK(as_clock(3599) == "59:59");
  CHECK(as_clock(3723) == "1:02:03");
  CHECK(as_clock(-5) == "0:00");
}

TEST_CASE("result: one JSON object, null for what was not measured") {
  CHECK(result_json({"g2p", "cpu", 9.876, 38.1234, 6198, 71.26, 28034.4}) ==
        R"({"task":"g2p","per":9.88,"wer":38.12,"words":6198,"train_seconds":71.3,"target_tokens_per_second":28034,)"
        R"("device":"cpu"})");
  CHECK(
      result_json({"tsv", "cpu"}) ==
      R"({"task":"tsv","per":null,"wer":null,"words":0,"train_seconds":null,"target_tokens_per_second":null,"device":"cpu"})");
  CHECK(result_json({"g2p", "cpu", 0, 0, 1, 0, 0}).find(R"("per":0.00,"wer":0.00)") != std::string::npos);
}

TEST_CASE("result: the table of samples is aligned and says what is wrong") {
  const std::vector<Example> examples{{"né", {}, {{"N", "EY"}}}, {"either", {}, {{"IY", "DH"}, {"AY", "DH"}}}};
  const std::vector<std::vector<std::string>> predictions{{"N", "IY", "IY"}, {"AY", "DH"}};
  CHECK(sample_table(examples, predictions, libtrain::TokenKind::kWords) ==
        "source  predicted  reference\n"
        "né      N IY IY    N EY   (wrong)\n"
        "either  AY DH      IY DH | AY DH\n");
}

TEST_CASE("result: at most a dozen samples, from all over the examples") {
  std::vector<Example> examples;
  for (int i = 0; i < 24; ++i) examples.push_back({std::to_string(i), {}, {{"x"}}});
  const std::string table =
      sample_table(examples, std::vector<std::vector<std::string>>(24, {"x"}), libtrain::TokenKind::kChars);
  CHECK(std::ranges::count(table, '\n') == 13);
  CHECK(table.find("\n22 ") != std::string::npos);
  CHECK(table.find("\n23 ") == std::string::npos);
}

}  // namespace
}  // namespace seq2seq
