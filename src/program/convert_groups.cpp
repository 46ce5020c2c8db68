#include "convert_groups.hpp"

#include <chrono>

#include "command_line.hpp"
#include "kvant/io/convert_checkpoint.hpp"

namespace kvant::program {

void ConvertGroupsWords::add_to(CLI::App& app) {
  app.add_option("--as", form,
                 "gptq (version 2), gptq-v1, or awq (gemm; 4 bits, no activation order)")
      ->type_name("FORM")
      ->check(CLI::IsMember({"gptq", "gptq-v1", "awq"}));
  flags.add_to(app);
}

int convert_groups(const ConvertGroupsWords& words) {
  const auto form = io::group_form_from_name(words.form);
  if (!form) throw UsageError("folders are converted --as gptq, gptq-v1 or awq");
  io::ConvertCheckpointOptions options{.to = *form, .dry_run = words.flags.dry_run};
  Progress progress(words.flags.quiet);
  words.flags.apply(options.job, progress);
  const auto start = std::chrono::steady_clock::now();
  const io::CheckpointSummary summary = convert_checkpoint(words.model, words.output, options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!words.flags.dry_run) set_result_written();
  print_summary(summary, words.flags, "converted", words.output, seconds.count());
  return 0;
}

}  // namespace kvant::program
