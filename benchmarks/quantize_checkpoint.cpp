// Quantizing a model folder: how fast against a plain program that reads the same input and writes
// and syncs as many bytes as the output has, and with how much memory. A synthetic checkpoint of
// real layer shapes (those of a 7-billion-parameter llama, as many layers as fit the wanted size,
// random fp16) is built, both run in child processes one after the other, several times, and
// everything is removed again. With --calibrate the model is a gpt_bigcode of santacoder's shape, a
// text runs through it block by block before it is quantized, and the result is loaded by the
// program gpt_bigcode, whose memory is reported against the size of the result.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <kvant/io/checkpoint_writer.hpp>
#include <kvant/io/quantize_checkpoint.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace fs = std::filesystem;
using kvant::DType;
using kvant::io::TensorSpec;

namespace {

constexpr std::uint64_t kHidden = 4096;
constexpr std::uint64_t kInner = 11008;
constexpr std::uint64_t kVocabulary = 32000;
constexpr std::size_t kPlainBuffer = 4 << 20;
const fs::path kBundledModel = KVANT_BENCH_MODEL;

/// A model of about the wanted size: its tensors, config.json, and where its largest unit ends.
struct SyntheticModel {
  std::vector<TensorSpec> tensors;
  std::string config;
  std::uint64_t largest_unit = 0;  ///< bytes: a tensor as stored, or a block in float
};

std::uint64_t total_bytes(const std::vector<TensorSpec>& tensors) {
  std::uint64_t bytes = 0;
  for (const TensorSpec& tensor : tensors) bytes += byte_size(tensor);
  return bytes;
}

SyntheticModel llama(std::uint64_t wanted_bytes) {
  SyntheticModel model{{{"model.embed_tokens.weight", DType::float16, {kVocabulary, kHidden}},
                        {"lm_head.weight", DType::float16, {kVocabulary, kHidden}},
                        {"model.norm.weight", DType::float16, {kHidden}}},
                       R"({"model_type": "llama", "dtype": "float16"})"};
  for (int n = 0; total_bytes(model.tensors) < wanted_bytes; ++n) {
    const std::string layer = "model.layers." + std::to_string(n) + ".";
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      model.tensors.push_back(
          {layer + "self_attn." + name + ".weight", DType::float16, {kHidden, kHidden}});
    }
    for (const char* name : {"gate_proj", "up_proj"}) {
      model.tensors.push_back(
          {layer + "mlp." + name + ".weight", DType::float16, {kInner, kHidden}});
    }
    model.tensors.push_back({layer + "mlp.down_proj.weight", DType::float16, {kHidden, kInner}});
    for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
      model.tensors.push_back({layer + name + ".weight", DType::float16, {kHidden}});
    }
  }
  for (const TensorSpec& tensor : model.tensors) {
    model.largest_unit = std::max(model.largest_unit, byte_size(tensor));
  }
  return model;
}

SyntheticModel santacoder(std::uint64_t wanted_bytes) {
  constexpr std::uint64_t kWidth = 2048;
  constexpr std::uint64_t kHeadDim = 128;
  constexpr std::uint64_t kWords = 49280;
  SyntheticModel model{{{"transformer.wte.weight", DType::float16, {kWords, kWidth}},
                        {"transformer.wpe.weight", DType::float16, {kWidth, kWidth}},
                        {"transformer.ln_f.weight", DType::float16, {kWidth}},
                        {"transformer.ln_f.bias", DType::float16, {kWidth}}},
                       {}};
  const std::vector<std::pair<const char*, std::vector<std::uint64_t>>> block = {
      {"ln_1", {kWidth}},
      {"attn.c_attn", {kWidth + 2 * kHeadDim, kWidth}},
      {"attn.c_proj", {kWidth, kWidth}},
      {"ln_2", {kWidth}},
      {"mlp.c_fc", {4 * kWidth, kWidth}},
      {"mlp.c_proj", {kWidth, 4 * kWidth}}};
  int layers = 0;
  for (; total_bytes(model.tensors) < wanted_bytes; ++layers) {
    std::uint64_t block_bytes = 0;
    for (const auto& [name, shape] : block) {
      const std::string module = "transformer.h." + std::to_string(layers) + "." + name;
      model.tensors.push_back({module + ".weight", DType::float16, shape});
      model.tensors.push_back({module + ".bias", DType::float16, {shape[0]}});
      block_bytes += 2 * byte_size(model.tensors.back());
      block_bytes += 2 * byte_size(model.tensors[model.tensors.size() - 2]);
    }
    model.largest_unit = block_bytes;
  }
  model.config =
      R"({"model_type": "gpt_bigcode", "dtype": "float16", "n_embd": 2048, "n_head": 16,
"n_positions": 2048, "vocab_size": 49280, "multi_query": true, "layer_norm_epsilon": 1e-5,
"activation_function": "gelu_pytorch_tanh", "tie_word_embeddings": true, "bos_token_id": 0,
"eos_token_id": 0, "n_layer": )" +
      std::to_string(layers) + "}\n";
  return model;
}

/// Random fp16 values of magnitudes 2^-6 to 2^-3, either sign.
void fill(std::vector<std::uint16_t>& values, std::uint64_t& state) {
  for (std::uint16_t& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto random = static_cast<std::uint32_t>(state >> 33);
    const std::uint32_t bits =
        ((random & 1u) << 15) | ((9u + ((random >> 1) & 3u)) << 10) | ((random >> 3) & 0x3FFu);
    value = static_cast<std::uint16_t>(bits);
  }
}

void build_model(const fs::path& folder, const SyntheticModel& model, const fs::path& tokenizer) {
  kvant::io::CheckpointWriter writer(folder, model.tensors, {.max_shard_size = 1'000'000'000});
  std::uint64_t state = 1;
  std::vector<std::uint16_t> values(1 << 21);
  for (const TensorSpec& tensor : model.tensors) {
    const std::uint64_t size = byte_size(tensor);
    for (std::uint64_t done = 0; done < size;) {
      fill(values, state);
      const auto part = std::as_bytes(std::span(values))
                            .first(std::min<std::size_t>(values.size() * 2, size - done));
      writer.write(tensor.name, done, part);
      done += part.size();
    }
  }
  writer.add_file("config.json", model.config);
  if (!tokenizer.empty()) writer.copy_file(tokenizer);
  writer.commit();
}

/// The plain program: reads all files, writes and syncs `bytes` bytes in the same rhythm.
int plain_copy(const fs::path& model, const fs::path& output, std::uint64_t bytes) {
  std::vector<char> buffer(kPlainBuffer);
  std::uint64_t input_bytes = 0;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) input_bytes += fs::file_size(file);
  const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  std::uint64_t read_bytes = 0;
  std::uint64_t written = 0;
  for (const fs::path& file : files) {
    const int in = ::open(file.c_str(), O_RDONLY);
    ssize_t count = 0;
    while ((count = ::read(in, buffer.data(), buffer.size())) > 0) {
      read_bytes += static_cast<std::uint64_t>(count);
      const auto due =
          static_cast<std::uint64_t>(static_cast<double>(bytes) * static_cast<double>(read_bytes) /
                                     static_cast<double>(input_bytes));
      while (written < due) {
        const ssize_t put =
            ::write(out, buffer.data(), std::min<std::uint64_t>(buffer.size(), due - written));
        if (put <= 0) return 1;
        written += static_cast<std::uint64_t>(put);
      }
    }
    ::close(in);
  }
  const bool good = ::fsync(out) == 0 && ::close(out) == 0;
  return good && written == bytes ? 0 : 1;
}

struct Run {
  double seconds = 0;
  double peak_mib = 0;
};

template <class Body>
Run run_child(Body body) {
  std::fflush(nullptr);
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  struct rusage usage {};
  ::wait4(child, &status, 0, &usage);
  if (status != 0) throw std::runtime_error("a child process failed");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {seconds.count(), static_cast<double>(usage.ru_maxrss) / 1024.0};
}

/// Takes the files out of the page cache, so that reading means the disk.
void drop_from_cache(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const int file = ::open(entry.path().c_str(), O_RDONLY);
    ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    ::close(file);
  }
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Runs a program to its end in a child process, without its output.
Run run_program(std::vector<std::string> words) {
  return run_child([&] {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (std::freopen("/dev/null", "w", stdout) == nullptr) return 126;
    ::execv(arguments[0], arguments.data());
    return 127;
  });
}

double mib(std::uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

struct Settings {
  double gib = 2;
  int repeat = 3;
  bool cold = false;
  bool calibrate = false;
  fs::path programs;
  fs::path folder = fs::temp_directory_path();
  std::string threads;
};

void measure(const Settings& settings, const fs::path& work) {
  const auto wanted = static_cast<std::uint64_t>(settings.gib * 1024 * 1024 * 1024);
  const SyntheticModel synthetic = settings.calibrate ? santacoder(wanted) : llama(wanted);
  const fs::path model = work / "model";
  const fs::path out = work / "out";
  const fs::path text = work / "text";
  build_model(model, synthetic, settings.calibrate ? kBundledModel / "tokenizer.json" : "");
  if (settings.calibrate) {
    std::FILE* file = std::fopen(text.c_str(), "w");
    for (int i = 0; file != nullptr && i < 16; ++i) std::fprintf(file, "int f%d(int x);\n", i);
    if (file == nullptr || std::fclose(file) != 0) throw std::runtime_error("no text written");
  }
  const auto plan = kvant::io::quantize_checkpoint(model, out, {.dry_run = true});
  std::printf("model %.3f GB, result %.3f GB, largest %s %.0f MiB, input %s\n",
              1e-9 * static_cast<double>(plan.bytes_before),
              1e-9 * static_cast<double>(plan.bytes_after),
              settings.calibrate ? "block in float" : "tensor", mib(synthetic.largest_unit),
              settings.cold ? "from disk" : "in page cache");
  std::vector<std::string> words = {settings.programs / "kvant", "quantize", model, out, "--quiet"};
  if (!settings.threads.empty()) words.insert(words.end(), {"--threads", settings.threads});
  if (settings.calibrate) words.insert(words.end(), {"--calibrate", text.string()});
  std::vector<double> plain;
  std::vector<double> kvant;
  double peak = 0;
  for (int i = 0; i < settings.repeat; ++i) {
    if (settings.cold) drop_from_cache(model);
    plain.push_back(
        run_child([&] { return plain_copy(model, work / "plain", plan.bytes_after); }).seconds);
    fs::remove(work / "plain");
    if (settings.cold) drop_from_cache(model);
    fs::remove_all(out);
    const Run run = run_program(words);
    kvant.push_back(run.seconds);
    peak = std::max(peak, run.peak_mib);
    std::printf("run %d: plain %.2f s, kvant quantize %.2f s, %.1f MiB\n", i + 1, plain.back(),
                run.seconds, run.peak_mib);
  }
  const double gigabytes = 1e-9 * static_cast<double>(plan.bytes_before);
  std::printf(
      "median: plain %.2f GB/s, kvant quantize %.2f GB/s, ratio %.2f; peak memory %.1f "
      "MiB (limit %.0f)\n",
      gigabytes / median(plain), gigabytes / median(kvant), median(plain) / median(kvant), peak,
      mib(synthetic.largest_unit + synthetic.largest_unit / 2) + 64);
  if (settings.calibrate) {
    const Run run =
        run_program({settings.programs / "gpt_bigcode", out, "--prompt", "int", "--tokens", "1"});
    std::printf("gpt_bigcode on the result: %.2f s, peak memory %.1f MiB for %.1f MiB of weights\n",
                run.seconds, run.peak_mib, mib(plan.bytes_after));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  settings.programs = fs::path(argv[0]).parent_path();
  CLI::App app("kvant quantize against reading and writing as many bytes; its peak memory");
  app.add_option("--gib", settings.gib, "size of the model (default: 2)");
  app.add_option("--repeat", settings.repeat, "runs of each (default: 3)")
      ->check(CLI::Range(1, 100));
  app.add_flag("--cold", settings.cold, "take the input out of the page cache before each run");
  app.add_flag("--calibrate", settings.calibrate,
               "a gpt_bigcode model, calibrated; its rate includes running a text through it");
  app.add_option("--programs", settings.programs,
                 "where kvant and gpt_bigcode are (default: beside this program)");
  app.add_option("--folder", settings.folder, "where to work (default: the temporary folder)");
  app.add_option("--threads", settings.threads, "of the program (default: all)");
  CLI11_PARSE(app, argc, argv);

  const auto needed = static_cast<std::uint64_t>(3 * settings.gib * 1024 * 1024 * 1024);
  if (fs::space(settings.folder).available < needed) {
    std::fprintf(stderr, "%s has too little space for a model of %.1f GiB\n",
                 settings.folder.c_str(), settings.gib);
    return 1;
  }
  const fs::path work = settings.folder / ("kvant-bench-" + std::to_string(::getpid()));
  int code = 0;
  try {
    fs::create_directories(work);
    measure(settings, work);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    code = 1;
  }
  std::error_code ignored;
  fs::remove_all(work, ignored);
  return code;
}
