#include "harness/options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>

namespace kvant::bench {

Options parse_options(int argc, char** argv, const std::string& question,
                      const std::string& description) {
  CLI::App app{description};
  Options options;
  std::vector<std::string> shapes;
  app.add_option("--shape", shapes, "MxNxK instead of benchmarks/shapes/" + question + ".txt");
  app.add_option("--threads", options.threads, "numbers of threads, e.g. 1,2")->delimiter(',');
  app.add_flag("--quick", options.quick, "fewer shapes and repetitions");
  app.add_option("--json", options.json, "write the records to this file");
  if (question.ends_with("4")) {
    app.add_option("--format", options.formats,
                   "int4, int4-affine, nf4, fp4, int8-group, mxfp4, or blocks of GGUF: q4_0, q4_1, "
                   "q5_0, q5_1, q8_0, q4_k, q5_k, q6_k")
        ->delimiter(',')
        ->check(CLI::IsMember({"int4", "int4-affine", "nf4", "fp4", "int8-group", "mxfp4", "q4_0",
                               "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"}));
    app.add_option("--group", options.groups, "weights that share a scale, e.g. 32,64,128")
        ->delimiter(',')
        ->check(CLI::Range(32, 4096));
  }
  try {
    app.parse(argc, argv);
    for (const std::string& text : shapes) options.shapes.push_back(parse_shape(text));
    for (const int threads : options.threads) {
      if (threads < 1 || threads > 1024) {
        throw CLI::ValidationError("--threads", std::to_string(threads) + " is not in 1..1024");
      }
    }
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  if (options.shapes.empty()) options.shapes = read_shapes(question, options.quick);
  return options;
}

}  // namespace kvant::bench
