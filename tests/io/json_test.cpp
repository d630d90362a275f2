#include "libtrain/io/json.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "catch.h"
#include "data/temporary_file.h"

namespace libtrain::testing {
namespace {

using test::message_of;

JsonView checked(std::string_view text) { return check_json(text, 8, {"m.json", "text", 100}); }

std::string complaint(std::string_view text) {
  return message_of<CheckpointError>([&] { checked(text); });
}

std::vector<std::string> parts_of(const JsonView& json) {
  std::vector<std::string> parts;
  if (json.is_object())
    json.members([&](const JsonView& key, const JsonView& value) {
      parts.push_back(key.text() + "=" + std::string(value.raw()));
    });
  else
    json.elements([&](const JsonView& value) { parts.emplace_back(value.raw()); });
  return parts;
}

}  // namespace

TEST_CASE("json: values are read in place, with any spaces", "[io]") {
  const std::string text = " { \"a\\n\" : [ 1 ,\"x,]\" , {\"b\":{}} , [] ],\t\"b\":-1.5e3,\r\n\"\\u00e9\":null } ";
  const JsonView root = checked(text);
  CHECK(root.at() == 1);
  CHECK(parts_of(root) == std::vector<std::string>{"a\n=[ 1 ,\"x,]\" , {\"b\":{}} , [] ]", "b=-1.5e3", "é=null"});
  CHECK(parts_of(*root.find("a\n")) == std::vector<std::string>{"1", "\"x,]\"", "{\"b\":{}}", "[]"});
  CHECK(root.find("é")->raw() == "null");
  CHECK_FALSE(root.find("a"));
  CHECK_FALSE(root.find("b")->find("b"));
  CHECK(root.compact() == "{\"a\\n\":[1,\"x,]\",{\"b\":{}},[]],\"b\":-1.5e3,\"\\u00e9\":null}");
  CHECK(parts_of(checked("[]")).empty());
  CHECK(parts_of(checked("{ }")).empty());
}

TEST_CASE("json: texts without their escapes, and in the order of their characters", "[io]") {
  const std::string text = R"(["\"\\\/\b\f\n\r\t","\u0041\u00e9\u20AC\uD83D\uDE00","A","Aé€😀","é","😀"])";
  std::vector<JsonView> values;
  checked(text).elements([&](const JsonView& value) { values.push_back(value); });
  CHECK(values[0].text() == "\"\\/\b\f\n\r\t");
  CHECK(values[1].text() == "Aé€😀");
  CHECK(values[1].is_text("Aé€😀"));
  CHECK_FALSE(values[1].is_text("Aé€"));
  CHECK((values[1].compare_text(values[3]) == 0));
  CHECK((values[2].compare_text(values[1]) < 0));
  CHECK((values[5].compare_text(values[4]) > 0));
}

TEST_CASE("json: whole numbers are exact or none", "[io]") {
  CHECK(checked("18446744073709551615").whole() == UINT64_MAX);
  for (const char* text : {"18446744073709551616", "-0", "-1", "1.0", "1e3", "\"1\"", "null", "[1]"}) {
    INFO(text);
    CHECK_FALSE(checked(text).whole());
  }
}

TEST_CASE("json: what is none is refused at its byte", "[io]") {
  CHECK(complaint("") == "[m.json] text: no JSON (byte 100 of the file); copy the file again");
  CHECK(complaint("[1 2]") == "[m.json] text: no JSON (byte 103 of the file); copy the file again");
  CHECK(complaint("[1,]") == "[m.json] text: no JSON (byte 103 of the file); copy the file again");
  CHECK(complaint("nul") == "[m.json] text: no JSON (byte 103 of the file); copy the file again");
  CHECK(complaint("{\"a\":1,\"b\":2,\"\\u0061\":3}") ==
        "[m.json] text: key \"a\" occurs twice (byte 113 of the file); copy the file again");
  CHECK(complaint("[[[[[[[[[]]]]]]]]]") ==
        "[m.json] text: nested deeper than 8 levels (byte 108 of the file); copy the file again");
  CHECK(complaint("{\"a\":{\"b\":1},\"c\":{\"b\":1,\"a\":2}}") == "no exception");  // other objects
}

TEST_CASE("json: every text of two and three tokens is JSON here if and only if another parser takes it", "[io]") {
  const std::vector<std::string> tokens{"{",  "}",    "[",  "]",     ",",      ":",    "\"\"", "\"k\"", "0",   "-",
                                        "01", "-0.5", "1.", "1e+05", "1e",     "true", "nul",  " ",     "\n",  "\"",
                                        "\\", "\v",   "é",  "\xC3",  "\"\t\"", "+1",   ".5",   "//",    "'a'", "NaN"};
  int taken = 0;
  for (const auto& a : tokens)
    for (const auto& b : tokens)
      for (const auto& c : tokens) {
        const std::string text = a + b + c;
        const bool here = complaint(text) == "no exception", there = nlohmann::json::accept(text);
        if (here != there) FAIL("'" << text << "' here " << here << ", there " << there);
        taken += here;
      }
  CHECK(taken > 200);
}

}  // namespace libtrain::testing
