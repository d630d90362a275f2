/// How training shows on a screen: one redrawn bar on a terminal, one plain line a period elsewhere.
#pragma once
#include <cstdint>
#include <string>

namespace seq2seq {

struct Progress {
  int64_t update = 0, updates = 0;  // so far, and in all
  int64_t epoch = 0;                // counted from 1
  double loss = 0, learning_rate = 0, gradient_norm = 0;
  double tokens_per_second = 0;  // target tokens
  double seconds_left = 0;
};

/// At most `width` columns: " 45% ━━━━━━╌╌╌╌  1,800/4,000  loss 0.412  lr 1.1e-03  21,034 tok/s  0:47 left". The bar takes what is left and
/// vanishes when nothing is.
std::string render_bar(const Progress& progress, int width);
/// "epoch 1  update 1,800/4,000  loss 0.412  norm 0.61  lr 1.1e-03  21,034 tok/s  0:47 left"
std::string render_line(const Progress& progress);
/// "1,234,567"
std::string with_commas(int64_t number);
/// "1 epoch", "2,000 epochs", "3 mini-batches"
std::string counted(int64_t number, const std::string& what);
/// "1:02:03" or "2:03"
std::string as_clock(double seconds);

/// Writes to stderr. Other output must go through line(), which keeps the bar out of its way.
class ProgressDisplay {
 public:
  /// `period`: updates between plain lines.
  explicit ProgressDisplay(int64_t period = 1);
  ~ProgressDisplay();
  void update(const Progress& progress);
  /// On a terminal: this text where the bar is. Elsewhere nothing.
  void status(const std::string& text);
  void line(const std::string& text);
  /// Takes the bar off the screen, until the next update.
  void clear();

 private:
  void draw(const std::string& text);

  int64_t period_;
  bool terminal_, drawn_ = false;
};

}  // namespace seq2seq
