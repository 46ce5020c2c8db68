// Runs a model over windows of text, a block at a time, and keeps what its layers read.

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/io/atomic_file.hpp"
#include "kvant/io/text_file.hpp"
#include "kvant/models/load.hpp"
#include "kvant/models/statistics.hpp"
#include "models/calibrate/observed_block.hpp"
#include "models/calibrate/same_work.hpp"
#include "models/calibrate/statistics_writer.hpp"
#include "models/calibrate/window_file.hpp"
#include "models/load/parts.hpp"

namespace kvant::models {
namespace {

namespace fs = std::filesystem;

class CalibrateJob {
 public:
  CalibrateJob(Context& context, const fs::path& path, const Config& config,
               const std::vector<std::vector<TokenId>>& windows, const fs::path& out,
               const CalibrateOptions& options)
      : context_(context),
        path_(path),
        config_(config),
        windows_(windows),
        out_(out),
        partial_(out.string() + ".partial" +
                 (options.ranks != nullptr && options.ranks->rank() > 0
                      ? "." + std::to_string(options.ranks->rank())
                      : "")),
        options_(options),
        source_(open_float_weights(path, config)),
        parts_(context, config, load_options_, *source_) {
    if (!(options.longest_row >= 0) || options.longest_row > 1e6f) {
      throw Error(ErrorCode::invalid_argument,
                  "calibrate_model: rows of at most so many times the median are to be a number "
                  "from 0 to a million");
    }
    if (windows.empty()) {
      throw Error(ErrorCode::invalid_argument, "calibrate_model: there are no windows of text");
    }
    for (const auto& window : windows_) {
      if (window.empty() || static_cast<std::int64_t>(window.size()) > config_.position_limit()) {
        throw Error(ErrorCode::invalid_argument,
                    "calibrate_model: a window of " + std::to_string(window.size()) +
                        " ids; the model takes 1 to " + std::to_string(config_.position_limit()));
      }
      const auto number = static_cast<std::size_t>(&window - windows_.data());
      if (number % ranks() == rank()) {
        own_.push_back(number);
        tokens_.push_back(static_cast<std::int64_t>(window.size()));
      }
      summary_.rows += static_cast<std::int64_t>(window.size());
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
    if (rank() == 0) collect(done + (head ? 1 : 0));
    if (options_.ranks != nullptr) options_.ranks->wait_for_all();
    std::error_code ignored;
    fs::remove_all(partial_, ignored);
    // What attempts by more ranks left here.
    for (int other = 1; rank() == 0; ++other) {
      if (fs::remove_all(partial_.string() + "." + std::to_string(other), ignored) == 0) break;
    }
    return std::move(summary_);
  }

 private:
  [[nodiscard]] std::size_t rank() const {
    return options_.ranks == nullptr ? 0 : static_cast<std::size_t>(options_.ranks->rank());
  }
  [[nodiscard]] std::size_t ranks() const {
    return options_.ranks == nullptr ? 1 : static_cast<std::size_t>(options_.ranks->size());
  }
  /// Windows that the rank with the most of them has.
  [[nodiscard]] std::size_t rounds() const { return (windows_.size() + ranks() - 1) / ranks(); }

  [[nodiscard]] fs::path block_file(std::int64_t n) const {
    return partial_ / ("block-" + std::to_string(n) + ".safetensors");
  }
  [[nodiscard]] WindowFile states(const std::string& name) const {
    return {partial_ / (name + ".states"), tokens_, config_.n_embd};
  }
  void open(WindowFile& file) const {
    if (file.open_existing()) return;
    throw Error(ErrorCode::io, partial_.string() + ": files of the calibration are missing");
  }
  [[nodiscard]] static std::string before(std::int64_t block) {
    return "before-" + std::to_string(block);
  }

  [[nodiscard]] std::string identity() const {
    nlohmann::ordered_json job;
    job["files"] = state_of(path_);
    job["windows"] = hash_of(windows_);
    job["rows"] = summary_.rows;
    job["ranks"] = ranks();
    job["moments"] = options_.moments;
    job["longest_row"] = options_.longest_row;
    job["replaced"] = options_.replaced_by;
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
      while (rank() == 0 && summary_.resumed_blocks < blocks_ &&
             is_whole(block_file(summary_.resumed_blocks))) {
        ++summary_.resumed_blocks;
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
    agree_where_to_begin();
    if (summary_.resumed_blocks == 0) write_start(before(0));
  }

  /// Behind the last complete block its output must be there, on all ranks.
  void agree_where_to_begin() {
    std::int64_t& begin = summary_.resumed_blocks;
    if (options_.ranks != nullptr) {
      options_.ranks->broadcast(std::as_writable_bytes(std::span(&begin, 1)));
    }
    const std::vector<Stack>& stacks = parts_.stacks();
    const bool needs_encoded = stacks.size() > 1 && begin >= stacks.front().layers;
    std::uint32_t missing =
        begin > 0 && (!is_there(before(begin)) || (needs_encoded && !is_there("encoded"))) ? 1 : 0;
    if (options_.ranks != nullptr) options_.ranks->all_or(std::span(&missing, 1));
    if (missing != 0) begin = 0;
  }

  /// What cannot be read is made again.
  [[nodiscard]] bool is_there(const std::string& name) const {
    return is_whole(partial_ / (name + ".states"));
  }
  [[nodiscard]] static bool is_whole(const fs::path& file) {
    try {
      const io::SafeTensors whole(file);
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  /// Embeddings of all windows.
  void write_start(const std::string& name) {
    WindowFile file = states(name);
    file.create();
    for (std::size_t w = 0; w < own_.size(); ++w) {
      file.write(w, parts_.embed_window(windows_[own_[w]]));
    }
    file.finish();
  }

  void check_cancelled() const {
    if (options_.cancel != nullptr && options_.cancel->load()) {
      throw Error(ErrorCode::cancelled, "stopped; what is done is kept in " + partial_.string() +
                                            ", and the same command goes on from there");
    }
  }

  /// Runs a block over this rank's windows.
  class BlockRun {
   public:
    BlockRun(const CalibrateJob& job, const Stack& stack, std::int64_t n, std::int64_t number,
             bool beside)
        : job_(job),
          n_(n),
          sees_all_(job.config_.kind == ModelKind::encoder || beside),
          crosses_(job.config_.kind == ModelKind::encoder_decoder && !beside),
          distance_bias_(job.parts_.distance_bias(stack, sees_all_)),
          in_(job.states(before(number))),
          encoded_(job.states("encoded")) {
      job.open(in_);
      if (crosses_) job.open(encoded_);
    }

    /// What the block makes of window w, [tokens, n_embd].
    const std::vector<float>& operator()(const Block& block, std::size_t w) {
      const Config& config = job_.config_;
      in_.read(w, h_);
      const MatrixView<float> rows(h_.data(), job_.tokens_[w], config.n_embd);
      Pass pass(config, Stream::fp32, 0, rows.rows(), std::move(memory_));
      pass.causal = !sees_all_;
      pass.distance_bias = distance_bias_;
      LayerCache cache;
      LayerCache read;
      if (crosses_) {
        encoded_.read(w, source_);
        read_source(job_.context_, config, block, pass,
                    MatrixView<const float>(source_.data(), job_.tokens_[w], config.n_embd), read);
      }
      run_block(job_.context_, config, block, n_, pass, rows, cache, crosses_ ? &read : nullptr);
      memory_ = std::move(static_cast<PassMemory&>(pass));
      return h_;
    }
    void remove_input() noexcept { in_.remove(); }

   private:
    const CalibrateJob& job_;
    std::int64_t n_;
    bool sees_all_;
    bool crosses_;
    std::vector<float> distance_bias_;
    WindowFile in_;
    WindowFile encoded_;
    std::vector<float> h_;
    std::vector<float> source_;
    PassMemory memory_;
  };

  /// A block without the layers that are observed.
  [[nodiscard]] Block empty(const Stack& stack, std::int64_t n) const {
    Block block = parts_.norms(stack, n);
    if (config_.n_expert > 0) {
      block.router = parts_.float_projection(stack.name(n, stack.parts->router), config_.n_expert,
                                             config_.n_embd);
    }
    return block;
  }

  void run_block_windows(const Stack& stack, std::int64_t n, std::int64_t number, bool beside) {
    Block block = empty(stack, n);
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
    BlockRun run(*this, stack, n, number, beside);
    WindowFile out = states(before(number + 1));
    out.create();
    for (std::size_t w = 0; w < rounds(); ++w) {
      check_cancelled();
      if (options_.progress) {
        const auto count = static_cast<std::int64_t>(rounds());
        options_.progress(number * count + static_cast<std::int64_t>(w), blocks_ * count,
                          names.front());
      }
      // (Others may have one window more.)
      if (w < own_.size()) {
        const std::vector<float>& h = run(block, w);
        if (!options_.replace) out.write(w, h);
      }
      observed.observe();
    }
    observed.complete();
    if (options_.replace) {
      replace_layers(specs, names, observed);
      for (std::size_t w = 0; w < own_.size(); ++w) {
        check_cancelled();
        out.write(w, run(block, w));
      }
    }
    out.finish();
    if (beside && n + 1 == stack.layers) finish_encoder(stack, out, number + 1);
    write_block(number, observed.inputs());
    if (number > 0 || !beside) run.remove_input();
  }

  /// The layers as their codes will be.
  void replace_layers(const std::vector<LinearSpec>& specs, const std::vector<std::string>& names,
                      ObservedInputs& observed) {
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const LayerName name{names[i], names[i], names[i]};
      const FloatParameters parameters = parts_.linear(specs[i], name);
      std::vector<float> values = parameters.weights.floats(context_);
      const MatrixView<float> view(values.data(), specs[i].outputs, specs[i].inputs);
      if (rank() == 0 && !specs[i].stays_float) {
        options_.replace(names[i], observed.moments_of(names[i]), view);
      }
      if (options_.ranks != nullptr) {
        options_.ranks->broadcast(std::as_writable_bytes(std::span(values)));
      }
      *specs[i].slot = plain_layer(context_, view, parameters.bias, options_.forward);
      source_->release(names[i] + ".weight");
    }
  }

  /// The decoder reads the encoder's output through its last norm, and begins with embeddings.
  void finish_encoder(const Stack& stack, WindowFile& last, std::int64_t next) {
    const Norm norm = parts_.final_norm(stack);
    WindowFile encoded = states("encoded");
    encoded.create();
    std::vector<float> h;
    for (std::size_t w = 0; w < own_.size(); ++w) {
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
    open(in);
    std::vector<float> h;
    std::vector<float> y;
    for (std::size_t w = 0; w < rounds(); ++w) {
      check_cancelled();
      if (w < own_.size()) {
        in.read(w, h);
        y.resize(static_cast<std::size_t>(tokens_[w] * head.outputs));
        LayerInput input(MatrixView<const float>(h.data(), tokens_[w], config_.n_embd));
        layer->forward(context_, input, {y.data(), tokens_[w], head.outputs});
      }
      observed.observe();
    }
    observed.complete();
    write_block(number, observed.inputs());
  }

  /// By rank 0; the others wait, so that no state is removed before the block is safe.
  void write_block(std::int64_t number,
                   const std::vector<std::unique_ptr<ObservedInput>>& inputs) const {
    if (rank() == 0) write_statistics(block_file(number), inputs);
    if (options_.ranks != nullptr) options_.ranks->wait_for_all();
  }

  /// One file of all blocks.
  void collect(std::int64_t count) {
    std::vector<fs::path> files;
    for (std::int64_t n = 0; n < count; ++n) files.push_back(block_file(n));
    join_statistics(files, out_,
                    {{"model_type", std::string(config_.model_type)},
                     {"model", model_fingerprint(context_, path_, config_)},
                     {"threshold", nlohmann::json(options_.threshold).dump()},
                     {"forward", std::string(to_string(options_.forward))},
                     {"windows", std::to_string(windows_.size())}},
                    summary_);
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
  std::vector<std::size_t> own_;      ///< this rank's windows
  std::vector<std::int64_t> tokens_;  ///< of these
  std::int64_t blocks_ = 0;
  CalibrateSummary summary_;
};

}  // namespace

CalibrateSummary calibrate_model(Context& context, const fs::path& path, const Config& config,
                                 const std::vector<std::vector<TokenId>>& windows,
                                 const fs::path& out, const CalibrateOptions& options) {
  CalibrateSummary summary = CalibrateJob(context, path, config, windows, out, options).run();
  if (options.moments && summary.rows < config.n_embd) {
    summary.warnings.push_back("only " + std::to_string(summary.rows) + " tokens for layers of " +
                               std::to_string(config.n_embd) +
                               " inputs and more: GPTQ and AWQ want several times as many");
  }
  return summary;
}

}  // namespace kvant::models
