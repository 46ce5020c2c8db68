// kvant convert --as: a quantized folder in another form, without loss.

#include <chrono>

#include "command_line.hpp"
#include "convert.hpp"
#include "kvant/io/convert_checkpoint.hpp"

namespace kvant::program {

int convert_form(const ConvertWords& words) {
  const auto form = io::group_form_from_name(words.form);
  if (!form) throw UsageError("--as " + words.form + " is not one of gptq, gptq-v1, awq");
  Progress progress(words.flags.quiet);
  const auto start = std::chrono::steady_clock::now();
  io::ConvertCheckpointOptions options{.to = *form, .dry_run = words.flags.dry_run};
  words.flags.apply(options.job, progress);
  const io::CheckpointSummary summary = convert_checkpoint(words.model, words.output, options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!words.flags.dry_run) set_result_written();
  print_summary(summary, words.flags, "converted", words.output, seconds.count());
  return 0;
}

}  // namespace kvant::program
