// Quantizing a model folder: how fast against a plain program that reads the same input and writes
// and syncs as many bytes as the output has, and with how much memory. A synthetic checkpoint of
// real layer shapes (those of a 7-billion-parameter llama, as many layers as fit the wanted size,
// random fp16) is built, both run in child processes one after the other, several times, and
// everything is removed again.

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

std::vector<TensorSpec> llama_tensors(std::uint64_t wanted_bytes) {
  std::vector<TensorSpec> result = {
      {"model.embed_tokens.weight", DType::float16, {kVocabulary, kHidden}},
      {"lm_head.weight", DType::float16, {kVocabulary, kHidden}},
      {"model.norm.weight", DType::float16, {kHidden}}};
  const auto total = [&] {
    std::uint64_t bytes = 0;
    for (const TensorSpec& tensor : result) bytes += byte_size(tensor);
    return bytes;
  };
  for (int n = 0; total() < wanted_bytes; ++n) {
    const std::string layer = "model.layers." + std::to_string(n) + ".";
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      result.push_back(
          {layer + "self_attn." + name + ".weight", DType::float16, {kHidden, kHidden}});
    }
    for (const char* name : {"gate_proj", "up_proj"}) {
      result.push_back({layer + "mlp." + name + ".weight", DType::float16, {kInner, kHidden}});
    }
    result.push_back({layer + "mlp.down_proj.weight", DType::float16, {kHidden, kInner}});
    for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
      result.push_back({layer + name + ".weight", DType::float16, {kHidden}});
    }
  }
  return result;
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

void build_model(const fs::path& folder, std::uint64_t bytes) {
  const std::vector<TensorSpec> tensors = llama_tensors(bytes);
  kvant::io::CheckpointWriter writer(folder, tensors, {.max_shard_size = 1'000'000'000});
  std::uint64_t state = 1;
  std::vector<std::uint16_t> values(1 << 21);
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t size = byte_size(tensor);
    for (std::uint64_t done = 0; done < size;) {
      fill(values, state);
      const auto part = std::as_bytes(std::span(values))
                            .first(std::min<std::size_t>(values.size() * 2, size - done));
      writer.write(tensor.name, done, part);
      done += part.size();
    }
  }
  writer.add_file("config.json", "{\"model_type\": \"llama\", \"dtype\": \"float16\"}\n");
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

}  // namespace

int main(int argc, char** argv) {
  double gib = 2;
  int repeat = 3;
  bool cold = false;
  std::string program = (fs::path(argv[0]).parent_path() / "kvant").string();
  std::string folder = fs::temp_directory_path().string();
  std::string threads;
  CLI::App app("kvant quantize against reading and writing as many bytes; its peak memory");
  app.add_option("--gib", gib, "size of the model (default: 2)");
  app.add_option("--repeat", repeat, "runs of each (default: 3)")->check(CLI::Range(1, 100));
  app.add_flag("--cold", cold, "take the input out of the page cache before each run");
  app.add_option("--program", program, "the program (default: kvant beside this one)");
  app.add_option("--folder", folder, "where to work (default: the temporary folder)");
  app.add_option("--threads", threads, "of the program (default: all)");
  CLI11_PARSE(app, argc, argv);

  const auto wanted = static_cast<std::uint64_t>(gib * 1024 * 1024 * 1024);
  const fs::path work = fs::path(folder) / ("kvant-bench-" + std::to_string(::getpid()));
  if (fs::space(folder).available < 3 * wanted) {
    std::fprintf(stderr, "%s has too little space for a model of %.1f GiB\n", folder.c_str(), gib);
    return 1;
  }
  int code = 0;
  try {
    fs::create_directories(work);
    const fs::path model = work / "model";
    build_model(model, wanted);
    const auto plan = kvant::io::quantize_checkpoint(model, work / "out", {.dry_run = true});
    std::uint64_t largest = 0;
    for (const TensorSpec& tensor : llama_tensors(wanted)) {
      largest = std::max(largest, byte_size(tensor));
    }
    std::printf("model %.3f GB, result %.3f GB, largest tensor %.0f MiB, input %s\n",
                1e-9 * static_cast<double>(plan.bytes_before),
                1e-9 * static_cast<double>(plan.bytes_after),
                static_cast<double>(largest) / (1 << 20), cold ? "from disk" : "in page cache");
    std::vector<double> plain;
    std::vector<double> kvant;
    double peak = 0;
    for (int i = 0; i < repeat; ++i) {
      if (cold) drop_from_cache(model);
      plain.push_back(
          run_child([&] { return plain_copy(model, work / "plain", plan.bytes_after); }).seconds);
      fs::remove(work / "plain");
      if (cold) drop_from_cache(model);
      const Run run = run_child([&] {
        std::vector<std::string> words = {program, "quantize", model.string(), work / "out",
                                          "--quiet"};
        if (!threads.empty()) words.insert(words.end(), {"--threads", threads});
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        ::execv(program.c_str(), arguments.data());
        return 127;
      });
      kvant.push_back(run.seconds);
      peak = std::max(peak, run.peak_mib);
      fs::remove_all(work / "out");
      std::printf("run %d: plain %.2f s, kvant quantize %.2f s, %.1f MiB\n", i + 1, plain.back(),
                  run.seconds, run.peak_mib);
    }
    const double gigabytes = 1e-9 * static_cast<double>(plan.bytes_before);
    std::printf(
        "median: plain %.2f GB/s, kvant quantize %.2f GB/s, ratio %.2f; peak memory %.1f "
        "MiB (limit %.0f)\n",
        gigabytes / median(plain), gigabytes / median(kvant), median(plain) / median(kvant), peak,
        static_cast<double>(largest + largest / 2) / (1 << 20) + 64);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    code = 1;
  }
  std::error_code ignored;
  fs::remove_all(work, ignored);
  return code;
}
