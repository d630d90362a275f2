#include "libtrain/io/json_check.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace libtrain {
namespace {

using Json = nlohmann::json;

/// Sees the text go by without building anything from it but the keys of open objects.
class Checker : public Json::json_sax_t {
 public:
  Checker(int max_depth, const JsonPlace& place) : max_depth_(size_t(max_depth)), place_(place) {}

  bool start_object(size_t) override { return open(); }
  bool start_array(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& key) override {
    if (!keys_.back().insert(key).second) refuse("key '" + key.substr(0, 100) + "' occurs twice");
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    refuse_byte(std::max<size_t>(position, 1) - 1);
  }
  [[noreturn]] void refuse_byte(size_t at) const {
    refuse(format_message("no JSON at byte {} of the file", place_.first_byte + at));
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(Json::binary_t&) override { return true; }

 private:
  [[noreturn]] void refuse(const std::string& complaint) const {
    throw CheckpointError(format_message("[{}] {}: {}; copy the file again", place_.file, place_.field, complaint));
  }
  bool open() {
    if (keys_.size() == max_depth_) refuse(format_message("nested deeper than {} levels", max_depth_));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  size_t max_depth_;
  const JsonPlace& place_;
  std::vector<std::set<std::string>> keys_;  // of every open object and array; an array has none
};

}  // namespace

void check_json(std::string_view text, int max_depth, const JsonPlace& place) {
  Checker checker(max_depth, place);
  if (const size_t zero = text.find('\0'); zero != text.npos) checker.refuse_byte(zero);  // the parser would stop there
  Json::sax_parse(text, &checker);
}

}  // namespace libtrain
