#include "io/checkpoint/skip_modules.hpp"

#include <algorithm>

namespace kvant::io {
namespace {

/// One element of an expression: what it matches, and how often.
struct Element {
  enum Kind { literal, any, digit } kind = literal;
  char character = 0;
  bool many = false;      ///< + or *
  bool optional = false;  ///< * or ?

  [[nodiscard]] bool matches(char c) const {
    return kind == any || (kind == digit ? c >= '0' && c <= '9' : c == character);
  }
};

struct Expression {
  std::vector<Element> elements;
  bool to_the_end = false;  ///< $
};

/// Names, dots, \., \d, ., *, +, ?, ^, $: what such lists hold. Nothing for more.
std::optional<Expression> parse(std::string_view text) {
  Expression result;
  if (text.starts_with('^')) text.remove_prefix(1);
  if (text.ends_with('$') && !text.ends_with("\\$")) {
    result.to_the_end = true;
    text.remove_suffix(1);
  }
  constexpr std::string_view kSpecial = "()[]{}|^$";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (kSpecial.find(c) != std::string_view::npos) return std::nullopt;
    if (c == '*' || c == '+' || c == '?') {
      if (result.elements.empty()) return std::nullopt;
      Element& last = result.elements.back();
      if (last.many || last.optional) return std::nullopt;
      last.many = c != '?';
      last.optional = c != '+';
    } else if (c == '\\') {
      if (++i == text.size()) return std::nullopt;
      const bool letter = (text[i] >= 'a' && text[i] <= 'z') ||
                          (text[i] >= 'A' && text[i] <= 'Z') || (text[i] >= '0' && text[i] <= '9');
      if (letter && text[i] != 'd') return std::nullopt;
      result.elements.push_back(
          {.kind = letter ? Element::digit : Element::literal, .character = text[i]});
    } else {
      result.elements.push_back(
          {.kind = c == '.' ? Element::any : Element::literal, .character = c});
    }
  }
  return result;
}

/// Whether the expression matches the beginning of a name up to a boundary. All ways at once, in
/// time of the product of both lengths.
bool matches(const Expression& expression, std::string_view name) {
  std::vector<char> at(name.size() + 1, 0);  // places that the elements so far can end at
  at[0] = 1;
  for (const Element& element : expression.elements) {
    std::vector<char> next(name.size() + 1, 0);
    for (std::size_t i = 0; i <= name.size(); ++i) {
      if (at[i] != 0 && element.optional) next[i] = 1;
      const bool from = at[i] != 0 || (element.many && next[i] != 0);
      if (from && i < name.size() && element.matches(name[i])) next[i + 1] = 1;
    }
    at = std::move(next);
  }
  for (std::size_t i = 0; i <= name.size(); ++i) {
    const bool boundary = i == name.size() || name[i] == '.' || (i > 0 && name[i - 1] == '.');
    if (at[i] != 0 && (expression.to_the_end ? i == name.size() : boundary)) return true;
  }
  return false;
}

bool keeps_any(std::string_view entry, const std::set<std::string>& modules) {
  return std::any_of(modules.begin(), modules.end(), [&](const std::string& module) {
    return skips(entry, module).value_or(true);
  });
}

/// An expression for this name and no other.
std::string exactly(std::string_view name) {
  std::string result = "^";
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    if (!plain) result += '\\';
    result += c;
  }
  return result + "$";
}

/// The shortest end of a name, from a dot on, that keeps nothing that is quantized; "" : none does.
std::string_view shortest_end(std::string_view name, const std::set<std::string>& quantized) {
  for (std::size_t dot = name.rfind('.'); dot != std::string_view::npos && dot > 0;
       dot = name.rfind('.', dot - 1)) {
    const std::string_view end = name.substr(dot + 1);
    // A number alone says nothing about what it counts.
    const bool number = end.find_first_not_of("0123456789") == std::string_view::npos;
    if (!number && !keeps_any(end, quantized)) return end;
  }
  return {};
}

}  // namespace

std::optional<bool> skips(std::string_view entry, std::string_view module) {
  if (module.ends_with(entry)) return true;
  const std::optional<Expression> expression = parse(entry);
  if (!expression) return std::nullopt;
  return matches(*expression, module);
}

std::vector<std::string> make_skip_modules(const SkipTask& task) {
  std::set<std::string> entries;
  for (const std::string& name : task.keep) {
    if (!keeps_any(name, task.quantized)) {
      entries.insert(name);
    } else if (!task.quantized.contains(name)) {
      entries.insert(exactly(name));
    }
    if (!task.renamed) continue;
    if (const std::string_view end = shortest_end(name, task.quantized); !end.empty()) {
      entries.emplace(end);
    }
  }
  return {entries.begin(), entries.end()};
}

}  // namespace kvant::io
