#include <CLI/CLI.hpp>
#include <charconv>
#include <fstream>
#include <stdexcept>

#include "harness/options.hpp"

namespace kvant::bench {

Shape parse_shape(const std::string& text) {
  Shape shape{0, 0, 0, false};
  std::int64_t* const parts[] = {&shape.m, &shape.n, &shape.k};
  const char* at = text.data();
  const char* const end = at + text.size();
  for (int i = 0; i < 3; ++i) {
    const auto result = std::from_chars(at, end, *parts[i]);
    const bool last = i == 2;
    const bool good = result.ec == std::errc() && *parts[i] >= 1 && *parts[i] <= (1 << 24) &&
                      (last ? result.ptr == end : result.ptr != end && *result.ptr == 'x');
    if (!good) throw CLI::ValidationError("--shape", "\"" + text + "\" is not MxNxK");
    at = result.ptr + 1;
  }
  return shape;
}

std::vector<Shape> read_shapes(const std::string& question, bool quick) {
  const std::string path = std::string(KVANT_SHAPES) + "/" + question + ".txt";
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<Shape> shapes;
  for (std::string line; std::getline(file, line);) {
    line = line.substr(0, line.find('#'));
    std::istringstream words(line);
    std::string shape;
    std::string mark;
    if (!(words >> shape)) continue;
    words >> mark;
    Shape parsed = parse_shape(shape);
    parsed.quick = mark == "quick";
    if (!quick || parsed.quick) shapes.push_back(parsed);
  }
  return shapes;
}

}  // namespace kvant::bench
