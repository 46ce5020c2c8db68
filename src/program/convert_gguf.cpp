// kvant convert with a GGUF file on one side.

#include "command_line.hpp"
#include "convert.hpp"

#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <chrono>
#include <cstdio>

#include "interrupt.hpp"
#include "kvant/context.hpp"
#include "kvant/models/convert_gguf.hpp"
#include "progress.hpp"
#endif

namespace kvant::program {

#if KVANT_PROGRAM_MODELS
namespace {

/// Options of a job, and its progress on stderr.
class Job {
 public:
  explicit Job(const ConvertWords& words)
      : words_(words),
        context_(ContextOptions{.threads = words.flags.threads}),
        progress_(words.flags.quiet),
        start_(std::chrono::steady_clock::now()) {}

  [[nodiscard]] models::GgufJob options() {
    models::GgufJob job;
    job.force = words_.flags.force;
    job.cancel = &interrupted();
    job.progress = [this](std::uint64_t done, std::uint64_t total, std::string_view tensor) {
      progress_.update(done, total, tensor);
    };
    return job;
  }
  [[nodiscard]] Context& context() { return context_; }

  void finish(const models::GgufSummary& summary) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
    progress_.finish();
    set_result_written();
    for (const io::Warning& warning : summary.warnings) {
      std::fprintf(stderr, "kvant: warning: %s\n", warning.text.c_str());
    }
    if (words_.flags.quiet) return;
    std::printf("%s: %zu tensors, %s in %s, %.1f s\n", summary.architecture.c_str(),
                summary.tensors, size_text(summary.bytes).c_str(), words_.output.c_str(),
                seconds.count());
  }

 private:
  const ConvertWords& words_;
  Context context_;
  Progress progress_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

int convert_to_gguf(const ConvertWords& words) {
  if (!words.dtype.empty()) {
    throw UsageError("--dtype is for folders; what a .gguf file holds is --type");
  }
  Job job(words);
  models::ToGgufOptions options;
  if (!words.type.empty()) options.type = words.type;
  options.tokenizer = !words.no_tokenizer;
  options.job = job.options();
  job.finish(models::convert_to_gguf(job.context(), words.model, words.output, options));
  return 0;
}

int convert_from_gguf(const ConvertWords& words) {
  if (!words.type.empty()) {
    throw UsageError("--type is for .gguf files; what a folder holds is --dtype");
  }
  Job job(words);
  models::FromGgufOptions options;
  if (words.dtype == "fp32") {
    options.dtype = DType::float32;
  } else if (words.dtype == "fp16") {
    options.dtype = DType::float16;
  } else if (words.dtype == "bf16") {
    options.dtype = DType::bfloat16;
  } else if (!words.dtype.empty()) {
    throw UsageError("--dtype " + words.dtype.substr(0, 40) + " is not one of fp32, fp16, bf16");
  }
  options.max_shard_size = parse_size(words.flags.max_shard_size, "--max-shard-size");
  options.job = job.options();
  job.finish(models::convert_from_gguf(job.context(), words.model, words.output, options));
  return 0;
}

#else

int convert_to_gguf(const ConvertWords&) {
  throw Error(ErrorCode::unsupported,
              "GGUF files need kvant::models, which this program was built without");
}

int convert_from_gguf(const ConvertWords& words) {
  return convert_to_gguf(words);
}

#endif

}  // namespace kvant::program
