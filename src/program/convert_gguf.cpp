#include "convert_gguf.hpp"

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

void ConvertGgufWords::add_to(CLI::App& app) {
  app.add_option("--type", type,
                 "into GGUF, what linear layers become: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0,\n"
                 "q5_1, q4_k, q5_k, q6_k (default: q8_0)")
      ->type_name("NAME");
  app.add_flag("--no-tokenizer", no_tokenizer, "into GGUF: leave the tokenizer out");
  app.add_option("--dtype", dtype,
                 "into a folder: fp32, fp16 or bf16 (default: as stored, fp32 for blocks)")
      ->type_name("NAME");
  app.add_option("--max-shard-size", max_shard_size,
                 "into a folder: begin a new file where one would grow beyond this (default: 5GB)")
      ->type_name("SIZE");
  app.add_option("--threads", threads, "threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--force", force, "replace OUT");
  app.add_flag("--quiet", quiet, "no progress and no summary, only warnings and errors");
}

#if KVANT_PROGRAM_MODELS
namespace {

/// Options of a job, and its progress on stderr.
class Job {
 public:
  explicit Job(const ConvertGgufWords& words)
      : words_(words),
        context_(ContextOptions{.threads = words.threads}),
        progress_(words.quiet),
        start_(std::chrono::steady_clock::now()) {}

  [[nodiscard]] models::GgufJob options() {
    models::GgufJob job;
    job.force = words_.force;
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
    if (words_.quiet) return;
    std::printf("%s: %zu tensors, %s in %s, %.1f s\n", summary.architecture.c_str(),
                summary.tensors, size_text(summary.bytes).c_str(), words_.output.c_str(),
                seconds.count());
  }

 private:
  const ConvertGgufWords& words_;
  Context context_;
  Progress progress_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

int convert_to_gguf(const ConvertGgufWords& words) {
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

int convert_from_gguf(const ConvertGgufWords& words) {
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
  options.max_shard_size = parse_size(words.max_shard_size, "--max-shard-size");
  options.job = job.options();
  job.finish(models::convert_from_gguf(job.context(), words.model, words.output, options));
  return 0;
}

#else

int convert_to_gguf(const ConvertGgufWords&) {
  throw Error(ErrorCode::unsupported,
              "GGUF files need kvant::models, which this program was built without");
}

int convert_from_gguf(const ConvertGgufWords& words) {
  return convert_to_gguf(words);
}

#endif

}  // namespace kvant::program
