#include "kvant/io/stored_layer.hpp"

#include <algorithm>
#include <optional>
#include <system_error>

#include "io/checkpoint/config_file.hpp"
#include "io/checkpoint/linear_rules.hpp"
#include "io/layers/stored_format.hpp"

namespace kvant::io {
std::string_view StoredLayer::scheme() const noexcept {
  if (!stored_as.empty()) return stored_as;
  return format ? to_string(*format) : to_string(dtype);
}

bool natural_less(std::string_view a, std::string_view b) noexcept {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto number = [&](std::string_view text, std::size_t& at) {
    while (at < text.size() && text[at] == '0') ++at;  // leading zeros do not count
    const std::size_t begin = at;
    while (at < text.size() && digit(text[at])) ++at;
    return text.substr(begin, at - begin);
  };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      const std::string_view m = number(a, i);
      const std::string_view n = number(b, j);
      if (m.size() != n.size()) return m.size() < n.size();
      if (m != n) return m < n;
    } else if (a[i] != b[j]) {
      return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
    } else {
      ++i;
      ++j;
    }
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;  // "h.1" and "h.01": any fixed order
}

std::vector<StoredLayer> find_linear_layers(const Checkpoint& checkpoint, const ModelHints& hints) {
  const LinearRules rules(hints);
  const FindTensor find = find_in(checkpoint);
  std::vector<StoredLayer> layers;
  for (const TensorInfo* info : checkpoint.tensors()) {
    const StoredFormat* form = form_of(find, *info);
    if (form == nullptr) continue;
    if (auto layer = form->recognise(find, *info, rules)) layers.push_back(std::move(*layer));
  }
  std::sort(layers.begin(), layers.end(), [](const StoredLayer& a, const StoredLayer& b) {
    return natural_less(a.name, b.name);
  });
  return layers;
}

ModelHints model_hints_of(const std::filesystem::path& checkpoint) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(checkpoint, ignored);
  const auto file = (folder ? checkpoint : checkpoint.parent_path()) / "config.json";
  if (!std::filesystem::exists(file, ignored)) return {};
  try {
    const ConfigFile config(file);
    return config.hints();
  } catch (const Error& error) {
    return {.problem = error.what()};
  }
}

}  // namespace kvant::io
