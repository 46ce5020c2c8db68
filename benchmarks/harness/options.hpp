#pragma once

// The command line that all questions share.

#include <cstdint>
#include <string>
#include <vector>

namespace kvant::bench {

struct Shape {
  std::int64_t m, n, k;
  bool quick;  ///< part of --quick
};

struct Options {
  std::vector<Shape> shapes;  ///< from --shape, else from the question's file
  std::vector<int> threads{1};
  bool quick = false;
  std::string json;
  // Of the questions about 4 bits.
  std::vector<std::string> formats{"int4", "nf4"};
  std::vector<int> groups{128, 64, 32};
};

/// Parses MxNxK. @throws CLI::ValidationError
Shape parse_shape(const std::string& text);

/// Reads the command line; exits with 0 for --help and 2 for a wrong one. `question` names the file
/// of default shapes (benchmarks/shapes/QUESTION.txt).
Options parse_options(int argc, char** argv, const std::string& question,
                      const std::string& description);

/// Shapes of a text file: one MxNxK a line, "quick" behind those of --quick, # for comments.
std::vector<Shape> read_shapes(const std::string& question, bool quick);

}  // namespace kvant::bench
