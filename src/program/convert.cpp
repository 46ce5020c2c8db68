// kvant convert: a quantized checkpoint in another form, without loss.
//
// What is converted into what is decided by what MODEL is and by --as; each pair is a function of
// its own.

#include <chrono>
#include <filesystem>
#include <string>
#include <system_error>

#include "command_line.hpp"
#include "job_options.hpp"
#include "kvant/io/convert_checkpoint.hpp"

namespace kvant::program {
namespace {

constexpr const char* kDescription =
    "Examples:\n"
    "  kvant convert MODEL OUT --as awq\n"
    "  kvant convert MODEL OUT --as gptq-v1 --dry-run\n\n"
    "Writes the folder OUT from the quantized folder MODEL in another form. Codes, zero points "
    "and\n"
    "scales stay what they are, bit for bit; what the new form cannot hold is an error.\n";

struct ConvertRequest {
  std::string model;
  std::string output;
  std::string form;
  JobFlags flags;
};

/// GPTQ or AWQ to GPTQ or AWQ.
io::CheckpointSummary convert_groups(const ConvertRequest& request, io::GroupForm form,
                                     Progress& progress) {
  io::ConvertCheckpointOptions options{.to = form, .dry_run = request.flags.dry_run};
  request.flags.apply(options.job, progress);
  return convert_checkpoint(request.model, request.output, options);
}

io::CheckpointSummary convert(const ConvertRequest& request, Progress& progress) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(request.model, ignored);
  const auto groups = io::group_form_from_name(request.form);
  if (folder && groups) return convert_groups(request, *groups, progress);
  throw UsageError(shell_word(request.model) + " is not a folder; folders are converted to gptq, " +
                   "gptq-v1 and awq");
}

}  // namespace

int convert_command(const Arguments& arguments) {
  ConvertRequest request;
  CLI::App app(kDescription, "kvant convert");
  app.add_option("MODEL", request.model, "the folder to read: a model of GPTQ or AWQ")->required();
  app.add_option("OUT", request.output, "the folder to write")->required();
  app.add_option("--as", request.form,
                 "gptq (version 2), gptq-v1, or awq (gemm; 4 bits, no activation order)")
      ->type_name("FORM")
      ->check(CLI::IsMember({"gptq", "gptq-v1", "awq"}))
      ->required();
  request.flags.add_to(app);
  if (!parse(app, arguments)) return 0;

  Progress progress(request.flags.quiet);
  const auto start = std::chrono::steady_clock::now();
  const io::CheckpointSummary summary = convert(request, progress);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!request.flags.dry_run) set_result_written();
  print_summary(summary, request.flags, "converted", request.output, seconds.count());
  return 0;
}

}  // namespace kvant::program
