#include "io/json_tree.hpp"

#include "io/file_bytes.hpp"
#include "io/json_sax.hpp"

namespace kvant::io {
namespace {

/// Lets everything pass that the strict reader lets pass.
class Anything final : public JsonHandler {
 public:
  explicit Anything(const std::string& name) : name_(name) {}
  void on_event(const JsonValue&) override {}
  [[nodiscard]] std::string where() const override { return name_; }

 private:
  const std::string& name_;
};

}  // namespace

nlohmann::json parse_json_tree(std::span<const std::byte> text, const std::string& name) {
  Anything handler(name);
  parse_json_object(text, handler);
  const auto* begin = reinterpret_cast<const char*>(text.data());
  return nlohmann::json::parse(begin, begin + text.size());
}

nlohmann::json read_json_tree(const std::filesystem::path& path, std::uint64_t limit) {
  const FileBytes file = FileBytes::read(path, limit);
  return parse_json_tree(file.bytes(), path.string());
}

}  // namespace kvant::io
