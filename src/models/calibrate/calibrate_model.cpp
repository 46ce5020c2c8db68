// Runs a model over windows of text, a block at a time, and keeps what its layers read.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/io/atomic_file.hpp"
#include "kvant/io/safetensors_stream.hpp"
#include "kvant/io/safetensors_writer.hpp"
#include "kvant/io/text_file.hpp"
#include "kvant/models/load.hpp"
#include "kvant/models/statistics.hpp"
#include "models/calibrate/observed_block.hpp"
#include "models/calibrate/statistics_names.hpp"
#include "models/calibrate/window_file.hpp"
#include "models/load/parts.hpp"

namespace kvant::models {
namespace {

namespace fs = std::filesystem;

/// FNV-1a: tells windows of one attempt from those of another.
std::uint64_t hash_of(const std::vector<std::vector<TokenId>>& windows) {
  std::uint64_t hash = 14695981039346656037u;
  const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
  for (const auto& window : windows) {
    add(window.size());
    for (const TokenId id : window) add(static_cast<std::uint64_t>(id));
  }
  return hash;
}

/// Sizes and times of the model's files.
std::string state_of(const fs::path& path) {
  std::vector<std::string> lines;
  const auto add = [&](const fs::path& file) {
    std::error_code ignored;
    lines.push_back(file.filename().string() + " " + std::to_string(fs::file_size(file, ignored)) +
                    " " +
                    std::to_string(fs::last_write_time(file, ignored).time_since_epoch().count()));
  };
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_regular_file()) add(entry.path());
    }
  } else {
    add(path);
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

class Calibration {
 public:
  Calibration(Context& context, const fs::path& path, const Config& config,
              const std::vector<std::vector<TokenId>>& windows, const fs::path& out,
              const CalibrateOptions& options)
      : context_(context),
        path_(path),
        config_(config),
        windows_(windows),
        out_(out),
        partial_(out.string() + ".partial"),
        options_(options),
        source_(open_float_weights(path, config)),
        parts_(context, config, load_options_, *source_) {
    if (windows.empty()) {
      throw Error(ErrorCode::invalid_argument, "calibrate_model: there are no windows of text");
    }
    for (const auto& window : windows_) {
      if (window.empty() || static_cast<std::int64_t>(window.size()) > config_.position_limit()) {
        throw Error(ErrorCode::invalid_argument,
                    "calibrate_model: a window of " + std::to_string(window.size()) +
                        " ids; the model takes 1 to " + std::to_string(config_.position_limit()));
      }
      tokens_.push_back(static_cast<std::int64_t>(window.size()));
      summary_.rows += tokens_.back();
    }
    for (const Stack& stack : parts_.stacks()) blocks_ += stack.layers;
  }

  CalibrateSummary run() {
    open_partial();
    std::int64_t done = 0;
    const std::vector<Stack>& stacks = parts_.stacks();
    for (const Stack& stack : stacks) {
      const bool beside = &stack != &stacks.back();
      for (std::int64_t n = 0; n < stack.layers; ++n, ++done) {
        if (done < summary_.resumed_blocks) continue;
        run_block_windows(stack, n, done, beside);
      }
    }
    Model model;
    const auto head = parts_.head_linear(model);
    if (head && done >= summary_.resumed_blocks) observe_head(*head, done);
    collect(done + (head ? 1 : 0));
    std::error_code ignored;
    fs::remove_all(partial_, ignored);
    return std::move(summary_);
  }

 private:
  [[nodiscard]] fs::path block_file(std::int64_t n) const {
    return partial_ / ("block-" + std::to_string(n) + ".safetensors");
  }
  [[nodiscard]] WindowFile states(const std::string& name) const {
    return {partial_ / (name + ".states"), tokens_, config_.n_embd};
  }
  [[nodiscard]] static std::string before(std::int64_t block) {
    return "before-" + std::to_string(block);
  }

  [[nodiscard]] std::string identity() const {
    nlohmann::ordered_json job;
    job["files"] = state_of(path_);
    job["windows"] = hash_of(windows_);
    job["rows"] = summary_.rows;
    job["moments"] = options_.moments;
    job["longest_row"] = options_.longest_row;
    job["threshold"] = options_.threshold;
    job["forward"] = to_string(options_.forward);
    return job.dump();
  }

  /// What an attempt before left is taken up where it is for the same job.
  void open_partial() {
    std::error_code ignored;
    const fs::path job = partial_ / "job.json";
    const std::string same = identity();
    if (fs::exists(job, ignored) && io::read_text_file(job) == same) {
      while (summary_.resumed_blocks < blocks_ &&
             fs::exists(block_file(summary_.resumed_blocks), ignored)) {
        ++summary_.resumed_blocks;
      }
      // Behind the last complete block its output must be there.
      if (summary_.resumed_blocks > 0 && !is_there(before(summary_.resumed_blocks))) {
        summary_.resumed_blocks = 0;
      }
    } else if (fs::exists(partial_, ignored)) {
      if (!fs::exists(job, ignored) && !fs::is_empty(partial_, ignored)) {
        throw Error(ErrorCode::io,
                    partial_.string() + ": is in the way and not of a calibration; move it away");
      }
      fs::remove_all(partial_, ignored);
    }
    std::error_code error;
    fs::create_directories(partial_, error);
    if (error) {
      throw Error(ErrorCode::io, partial_.string() + ": cannot be made: " + error.message());
    }
    io::AtomicFile file(job);
    file.write(same);
    file.commit();
    const std::vector<Stack>& stacks = parts_.stacks();
    if (summary_.resumed_blocks == 0) {
      write_start(before(0));
    } else if (stacks.size() > 1 && summary_.resumed_blocks >= stacks.front().layers) {
      if (!is_there("encoded")) {
        summary_.resumed_blocks = 0;
        write_start(before(0));
      }
    }
  }

  [[nodiscard]] bool is_there(const std::string& name) const {
    return states(name).open_existing();
  }

  /// Embeddings of all windows.
  void write_start(const std::string& name) {
    WindowFile file = states(name);
    file.create();
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      std::vector<TokenId> places(windows_[w].size());
      std::iota(places.begin(), places.end(), TokenId{0});
      Model window;
      parts_.table_rows(window, windows_[w]);
      const std::string part(config_.names.project_in);
      if (!part.empty()) {
        const LinearSpec linear{part, config_.n_embd, config_.embedding_size, false, nullptr, true};
        FloatParameters parameters = parts_.linear(linear, parts_.name_of(part));
        window.project_in =
            std::make_unique<FloatLinear>(std::move(parameters.weights), parameters.bias);
      }
      file.write(w, embed(context_, window, places, 0));
    }
    file.finish();
  }

  void check_cancelled() const {
    if (options_.cancel != nullptr && options_.cancel->load()) {
      throw Error(ErrorCode::cancelled, "stopped; what is done is kept in " + partial_.string() +
                                            ", and the same command goes on from there");
    }
  }

  void run_block_windows(const Stack& stack, std::int64_t n, std::int64_t number, bool beside) {
    Block block = parts_.norms(stack, n);
    if (config_.n_expert > 0) {
      const std::string name = stack.name(n, stack.parts->router);
      const LinearSpec linear{name, config_.n_expert, config_.n_embd, false, nullptr, true};
      FloatParameters parameters = parts_.linear(linear, parts_.name_of(name));
      block.router = std::make_unique<FloatLinear>(std::move(parameters.weights), parameters.bias);
    }
    ObservedInputs observed(context_, options_);
    const std::vector<LinearSpec> specs = parts_.linears(stack, block);
    const std::vector<std::size_t> first = shared_inputs(block, specs);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const LayerName name = parts_.name_of(stack.name(n, specs[i].name));
      names.push_back(name.file);
      const FloatParameters parameters = parts_.linear(specs[i], name);
      *specs[i].slot =
          observed.observing(name.file, parameters, first[i] == i ? nullptr : &names[first[i]]);
      source_->release(name.file + ".weight");
    }
    const bool sees_all = config_.kind == ModelKind::encoder || beside;
    const std::vector<float> distance_bias = parts_.distance_bias(stack, sees_all);
    const bool crosses = config_.kind == ModelKind::encoder_decoder && !beside;
    WindowFile in = states(before(number));
    WindowFile out = states(before(number + 1));
    WindowFile encoded = states("encoded");
    if (!in.open_existing() || (crosses && !encoded.open_existing())) {
      throw Error(ErrorCode::io, partial_.string() + ": files of the calibration are missing");
    }
    out.create();
    std::vector<float> h;
    std::vector<float> source;
    PassMemory memory;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      check_cancelled();
      if (options_.progress) {
        options_.progress(
            number * static_cast<std::int64_t>(windows_.size()) + static_cast<std::int64_t>(w),
            blocks_ * static_cast<std::int64_t>(windows_.size()), names.front());
      }
      in.read(w, h);
      const MatrixView<float> rows(h.data(), tokens_[w], config_.n_embd);
      Pass pass(config_, Stream::fp32, 0, rows.rows(), std::move(memory));
      pass.causal = !sees_all;
      pass.distance_bias = distance_bias;
      LayerCache cache;
      LayerCache read;
      if (crosses) {
        encoded.read(w, source);
        read_source(context_, config_, block, pass,
                    MatrixView<const float>(source.data(), tokens_[w], config_.n_embd), read);
      }
      run_block(context_, config_, block, n, pass, rows, cache, crosses ? &read : nullptr);
      out.write(w, h);
      memory = std::move(static_cast<PassMemory&>(pass));
    }
    out.finish();
    if (beside && n + 1 == stack.layers) finish_encoder(stack, out, number + 1);
    write_block(number, observed.inputs());
    if (number > 0 || !beside) in.remove();
  }

  /// The decoder reads the encoder's output through its last norm, and begins with embeddings.
  void finish_encoder(const Stack& stack, WindowFile& last, std::int64_t next) {
    const Norm norm = parts_.final_norm(stack);
    WindowFile encoded = states("encoded");
    encoded.create();
    std::vector<float> h;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      last.read(w, h);
      const MatrixView<float> rows(h.data(), tokens_[w], config_.n_embd);
      normalize(context_, config_, rows, norm, Stream::fp32, rows);
      encoded.write(w, h);
    }
    encoded.finish();
    write_start(before(next));
  }

  void observe_head(const LinearSpec& head, std::int64_t number) {
    ObservedInputs observed(context_, options_);
    const LayerName name{head.name, head.name, head.name};
    const auto layer = observed.observing(name.file, parts_.linear(head, name), nullptr);
    WindowFile in = states(before(number));
    if (!in.open_existing()) {
      throw Error(ErrorCode::io, partial_.string() + ": files of the calibration are missing");
    }
    std::vector<float> h;
    std::vector<float> y;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      check_cancelled();
      in.read(w, h);
      y.resize(static_cast<std::size_t>(tokens_[w] * head.outputs));
      LayerInput input(MatrixView<const float>(h.data(), tokens_[w], config_.n_embd));
      layer->forward(context_, input, {y.data(), tokens_[w], head.outputs});
    }
    write_block(number, observed.inputs());
  }

  void write_block(std::int64_t number, std::vector<std::unique_ptr<ObservedInput>>& inputs) const {
    io::SafeTensorsWriter writer;
    nlohmann::ordered_json readers;
    std::vector<std::vector<std::int64_t>> rows;
    rows.reserve(inputs.size());
    for (const auto& input : inputs) {
      const methods::InputStatistics& seen = input->statistics;
      const std::string& name = input->layers.front();
      for (const std::string& layer : input->layers) readers[layer] = name;
      rows.push_back({seen.rows, seen.outlier_rows});
      writer.add(name + kMin, std::span<const float>(seen.min));
      writer.add(name + kMax, std::span<const float>(seen.max));
      writer.add(name + kSumAbs, std::span<const double>(seen.sum_abs));
      writer.add(name + kOutliers, std::span<const std::int64_t>(seen.outliers));
      writer.add(name + kHistogram, std::span<const std::int64_t>(seen.histogram));
      writer.add(name + kRows, std::span<const std::int64_t>(rows.back()));
      if (options_.moments) writer.add(name + kMoments, input->moments.sums());
    }
    writer.set_metadata("inputs", readers.dump());
    writer.write(block_file(number));
  }

  /// One file of all blocks.
  void collect(std::int64_t files) {
    std::vector<io::TensorSpec> specs;
    nlohmann::ordered_json readers = nlohmann::ordered_json::object();
    for (std::int64_t n = 0; n < files; ++n) {
      const io::SafeTensors block(block_file(n));
      for (const io::TensorInfo& info : block.tensors()) {
        specs.push_back({info.name, info.dtype, info.shape});
        summary_.inputs += info.name.ends_with(kRows);
      }
      const auto part = nlohmann::ordered_json::parse(block.metadata().at("inputs"));
      for (const auto& [layer, input] : part.items()) readers[layer] = input;
    }
    summary_.layers = static_cast<std::int64_t>(readers.size());
    std::map<std::string, std::string> metadata = {
        {"format", std::string(kStatisticsFormat)},
        {"model_type", std::string(config_.model_type)},
        {"threshold", nlohmann::json(options_.threshold).dump()},
        {"forward", std::string(to_string(options_.forward))},
        {"windows", std::to_string(windows_.size())},
        {"inputs", readers.dump()}};
    io::SafeTensorsStream stream(out_, std::move(specs), metadata);
    std::vector<std::byte> piece;
    for (std::int64_t n = 0; n < files; ++n) {
      const io::SafeTensors block(block_file(n));
      for (const io::TensorInfo& info : block.tensors()) {
        constexpr std::uint64_t kPiece = 4 << 20;
        for (std::uint64_t at = 0; at < info.bytes; at += kPiece) {
          piece.resize(static_cast<std::size_t>(std::min(kPiece, info.bytes - at)));
          block.read(info, at, piece);
          stream.write(info.name, at, piece);
        }
      }
    }
    stream.commit();
  }

  Context& context_;
  const fs::path& path_;
  const Config& config_;
  const std::vector<std::vector<TokenId>>& windows_;
  fs::path out_;
  fs::path partial_;
  const CalibrateOptions& options_;
  LoadOptions load_options_;
  std::unique_ptr<WeightSource> source_;
  PartLoader parts_;
  std::vector<std::int64_t> tokens_;
  std::int64_t blocks_ = 0;
  CalibrateSummary summary_;
};

}  // namespace

CalibrateSummary calibrate_model(Context& context, const fs::path& path, const Config& config,
                                 const std::vector<std::vector<TokenId>>& windows,
                                 const fs::path& out, const CalibrateOptions& options) {
  CalibrateSummary summary = Calibration(context, path, config, windows, out, options).run();
  if (options.moments && summary.rows < config.n_embd) {
    summary.warnings.push_back("only " + std::to_string(summary.rows) + " tokens for layers of " +
                               std::to_string(config.n_embd) +
                               " inputs and more: GPTQ and AWQ want several times as many");
  }
  return summary;
}

}  // namespace kvant::models
