#include "examples/seq2seq/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "libtrain/error.h"

namespace seq2seq {
namespace {

using libtrain::format_message;

constexpr int kShortestBar = 8, kLongestBar = 30;

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

double share_of(const Progress& p) {
  return p.updates > 0 ? std::clamp(double(p.update) / double(p.updates), 0.0, 1.0) : 0;
}

std::string counts(const Progress& p) { return with_commas(p.update) + "/" + with_commas(p.updates); }

std::string speed(const Progress& p) {
  return format_message("{} tok/s  {} left", with_commas(int64_t(p.tokens_per_second)), as_clock(p.seconds_left));
}

}  // namespace

std::string with_commas(int64_t number) {
  std::string text = std::to_string(number);
  const int64_t sign = number < 0;
  for (int64_t at = int64_t(text.size()) - 3; at > sign; at -= 3) text.insert(size_t(at), ",");
  return text;
}

std::string counted(int64_t number, const std::string& what) {
  const char* plural = what.ends_with("batch") ? "es" : "s";
  return with_commas(number) + " " + what + (number == 1 ? "" : plural);
}

std::string as_clock(double seconds) {
  const auto total = int64_t(std::llround(std::clamp(seconds, 0.0, 1e9)));
  const int64_t hours = total / 3600, minutes = total / 60 % 60;
  return hours ? format_message("{}:{:02}:{:02}", hours, minutes, total % 60)
               : format_message("{}:{:02}", minutes, total % 60);
}

std::string render_line(const Progress& p) {
  return format_message("epoch {}  update {}  loss {:.3f}  norm {:.2f}  lr {:.1e}  {}", p.epoch, counts(p), p.loss,
                        p.gradient_norm, p.learning_rate, speed(p));
}

std::string render_bar(const Progress& p, int width) {
  const std::string share = format_message("{:3}%", int(100 * share_of(p)));
  const std::string rest =
      format_message("  {}  loss {:.3f}  lr {:.1e}  {}", counts(p), p.loss, p.learning_rate, speed(p));
  const int room = std::min(width - int(share.size() + rest.size()) - 1, kLongestBar);
  if (room < kShortestBar) return (share + rest).substr(0, size_t(std::max(width, 0)));
  const int full = int(std::lround(share_of(p) * room));
  std::string bar = " ";
  for (int i = 0; i < room; ++i) bar += i < full ? "━" : "╌";
  return share + bar + rest;
}

ProgressDisplay::ProgressDisplay(int64_t period)
    : period_(std::max<int64_t>(period, 1)), terminal_(isatty(STDERR_FILENO)) {}
ProgressDisplay::~ProgressDisplay() { clear(); }

void ProgressDisplay::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

void ProgressDisplay::draw(const std::string& text) {
  std::fprintf(stderr, "\r\033[K%s", text.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressDisplay::status(const std::string& text) {
  if (terminal_) draw(text.substr(0, size_t(std::max(terminal_width() - 1, 0))));
}

void ProgressDisplay::update(const Progress& progress) {
  if (terminal_) {
    draw(render_bar(progress, terminal_width() - 1));
  } else if (progress.update % period_ == 0) {
    std::fprintf(stderr, "%s\n", render_line(progress).c_str());
  }
}

void ProgressDisplay::line(const std::string& text) {
  clear();
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace seq2seq
