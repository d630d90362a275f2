#include "mistakes/mistakes.h"

#include <set>
#include <typeinfo>

#include "catch.h"

namespace libtrain::testing {
namespace {

const std::type_info& type_of(Kind kind) {
  switch (kind) {
    case Kind::kInvalidArgument:
      return typeid(InvalidArgument);
    case Kind::kDataError:
      return typeid(DataError);
    case Kind::kCheckpointError:
      return typeid(CheckpointError);
    case Kind::kIoError:
      return typeid(IoError);
    case Kind::kOutOfMemory:
      return typeid(OutOfMemory);
    default:
      return typeid(DeviceError);
  }
}

/// The three texts in turn are taken out of the message: none can stand for another.
std::string missing_from(std::string message, const Mistake& mistake) {
  const std::string whole = message;
  for (const auto& [column, text] :
       {std::pair{"what", mistake.what}, std::pair{"where", mistake.where}, std::pair{"the remedy", mistake.remedy}}) {
    const size_t at = text.empty() ? std::string::npos : message.find(text);
    if (at == std::string::npos)
      return format_message("{}: expected {}, '{}', in: {}", mistake.name, column, text, whole);
    message.replace(at, text.size(), "\n");
  }
  return "";
}

std::vector<Mistake> all_mistakes() {
  std::vector<Mistake> all;
  for (auto* table :
       {tensor_mistakes, op_mistakes, sequence_mistakes, sequence_op_mistakes, training_mistakes, file_mistakes})
    for (Mistake& mistake : table()) all.push_back(std::move(mistake));
  return all;
}

}  // namespace

std::string fault_of(const Mistake& mistake) {
  try {
    mistake.make();
  } catch (const std::exception& error) {
    const std::string message = error.what();
    if (typeid(error) != type_of(mistake.kind))
      return format_message("{}: another kind of error: {}", mistake.name, message);
    if (message.front() != '[') return format_message("{}: does not begin with [where]: {}", mistake.name, message);
    return missing_from(message, mistake);
  }
  return format_message("{}: was not refused", mistake.name);
}

TEST_CASE("mistakes: the answer to each says what, where and what to do", "[mistakes]") {
  std::set<std::string> names, answers;
  for (const Mistake& mistake : all_mistakes()) {
    CHECK(fault_of(mistake) == "");
    CHECK(names.insert(mistake.name).second);
    INFO(mistake.name << " expects the same as another row");
    CHECK(answers.insert(mistake.what + mistake.where + mistake.remedy).second);
  }
  CHECK(names.size() >= 130);
}

TEST_CASE("mistakes: an answer that lacks a part, is of another kind or does not come is noticed", "[mistakes]") {
  const auto row = [](const char* what, const char* where, const char* remedy) {
    return Mistake{"planted", Kind::kInvalidArgument,
                   what,      where,
                   remedy,    [] {
                     throw InvalidArgument("[adam] beta1 must be in [0, 1), got 2; 0.9 is usual"); }};
  };
  CHECK(fault_of(row("got 2", "[adam] beta1", "0.9 is usual")) == "");
  CHECK(fault_of(row("got 3", "[adam] beta1", "0.9 is usual")).find("expected what, 'got 3'") != std::string::npos);
  CHECK(fault_of(row("got 2", "[adam] beta2", "0.9 is usual")).find("expected where") != std::string::npos);
  CHECK(fault_of(row("got 2", "[adam] beta1", "0.8 is usual")).find("expected the remedy") != std::string::npos);
  CHECK(fault_of(row("got 2", "[adam] beta1", "got 2")).find("expected the remedy") != std::string::npos);
  CHECK(fault_of(row("got 2", "[adam] beta1", "")).find("expected the remedy") != std::string::npos);
  Mistake other = row("got 2", "[adam] beta1", "0.9 is usual");
  other.kind = Kind::kDataError;
  CHECK(fault_of(other).find("another kind") != std::string::npos);
  other.make = [] {};
  CHECK(fault_of(other) == "planted: was not refused");
  other = row("got 2", "beta1", "0.9 is usual");
  other.make = [] { throw InvalidArgument("beta1 got 2; 0.9 is usual"); };
  CHECK(fault_of(other).find("does not begin with [where]") != std::string::npos);
}

}  // namespace libtrain::testing
