#include "io/checkpoint/checkpoint_index.hpp"

#include <cctype>
#include <string_view>
#include <utility>

#include "io/json/json_sax.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

/// True for the plain name of a file in the index' own folder, on any operating system.
bool is_plain_file_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return false;
  if (name.find_first_of("/\\") != std::string_view::npos) return false;
  if (name.find('\0') != std::string_view::npos) return false;
  const bool drive =
      name.size() >= 2 && name[1] == ':' && std::isalpha(static_cast<unsigned char>(name[0])) != 0;
  return !drive;
}

class IndexReader final : public JsonHandler {
 public:
  IndexReader(std::string file, CheckpointIndex& out) : file_(std::move(file)), out_(out) {}

  [[nodiscard]] std::string where() const override {
    return place_ == Place::weight_map ? file_ + ": weight_map" : file_;
  }

  [[nodiscard]] bool has_weight_map() const noexcept { return has_weight_map_; }

  void on_event(const JsonValue& value) override {
    const bool opens =
        value.event == JsonEvent::start_object || value.event == JsonEvent::start_array;
    const bool closes = value.event == JsonEvent::end_object || value.event == JsonEvent::end_array;
    if (opens) ++depth_;
    if (closes) --depth_;
    switch (place_) {
      case Place::outside: place_ = Place::top; break;
      case Place::top: top(value, opens); break;
      case Place::weight_map: entry(value); break;
      case Place::metadata: metadata(value); break;
      case Place::skipped:
        if (depth_ == 1 && closes) place_ = Place::top;
        break;
    }
  }

 private:
  enum class Place : std::uint8_t { outside, top, weight_map, metadata, skipped };

  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(FormatErrorKind::structure, where() + ": " + what);
  }

  void top(const JsonValue& value, bool opens) {
    if (value.event == JsonEvent::key) {
      key_ = value.text;
    } else if (key_ == "weight_map" && value.event != JsonEvent::end_object) {
      if (value.event != JsonEvent::start_object) fail("weight_map is not an object");
      has_weight_map_ = true;
      place_ = Place::weight_map;
      key_.clear();
    } else if (opens) {
      place_ = key_ == "metadata" && value.event == JsonEvent::start_object ? Place::metadata
                                                                            : Place::skipped;
      key_.clear();
    }
  }

  void entry(const JsonValue& value) {
    if (value.event == JsonEvent::end_object) {
      place_ = Place::top;
      key_.clear();
    } else if (value.event == JsonEvent::key) {
      key_ = value.text;
    } else if (value.event != JsonEvent::string) {
      fail("the shard of tensor " + in_quotes(key_) + " is not a string");
    } else if (!is_plain_file_name(value.text)) {
      throw FormatError(FormatErrorKind::path,
                        where() + ": the shard of tensor " + in_quotes(key_) + " is " +
                            in_quotes(value.text) + ", not the plain name of a file beside it");
    } else {
      out_.weight_map.emplace(key_, value.text);
    }
  }

  void metadata(const JsonValue& value) {
    if (depth_ == 1) {  // its closing brace
      place_ = Place::top;
    } else if (depth_ == 2 && value.event == JsonEvent::key) {
      key_ = value.text;
    } else if (depth_ == 2 && key_ == "total_size" &&
               (value.event == JsonEvent::unsigned_number ||
                value.event == JsonEvent::other_number)) {
      out_.total_size = value.real;
    }
  }

  std::string file_;
  CheckpointIndex& out_;
  Place place_ = Place::outside;
  std::size_t depth_ = 0;
  bool has_weight_map_ = false;
  std::string key_;
};

}  // namespace

CheckpointIndex parse_checkpoint_index(std::span<const std::byte> text, const std::string& name) {
  CheckpointIndex index;
  IndexReader reader(name, index);
  parse_json_object(text, reader);
  if (!reader.has_weight_map()) {
    throw FormatError(FormatErrorKind::structure, name + ": weight_map is missing");
  }
  return index;
}

}  // namespace kvant::io
