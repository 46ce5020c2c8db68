// Threads over pieces of tensors. Each worker reads, computes and writes a piece by itself, so that
// with two or more of them the disk reads, the processor works and the disk writes at once, and
// nothing is ever queued: memory is bounded by the workers' buffers.

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "io/convert/rank_exchange.hpp"
#include "io/convert/tensor_jobs.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/executor.hpp"

namespace kvant::io {
namespace {

/// All buffers of all workers together stay below this, as long as a row fits.
constexpr std::uint64_t kBufferBytes = 36u << 20;
constexpr std::uint64_t kBuffersPerWorker = 3;
constexpr std::uint64_t kLargestPiece = 2u << 20;
constexpr std::uint64_t kSmallestPiece = 64u << 10;

struct Piece {
  TensorJob* job;
  std::uint64_t begin;
  std::uint64_t end;
  bool stage;
};

class Runner {
 public:
  Runner(CheckpointWriter& out, const JobOptions& options, RankExchange* exchange)
      : out_(out), options_(options), exchange_(exchange) {
    if (options.context == nullptr) {
      const int all = static_cast<int>(std::thread::hardware_concurrency());
      own_ = openmp_executor(std::max(options.threads > 0 ? options.threads : std::max(all, 2), 1));
    }
    const Context& kernels = options.context != nullptr ? *options.context : default_context();
    workers_.resize(static_cast<std::size_t>(executor().concurrency()));
    for (Worker& worker : workers_) worker.kernels = &kernels.kernels();
    piece_bytes_ = std::clamp(kBufferBytes / kBuffersPerWorker / workers_.size(), kSmallestPiece,
                              kLargestPiece);
  }

  void run(std::vector<std::unique_ptr<TensorJob>>& jobs) {
    for (const auto& job : jobs) total_ += job->source().info->bytes;
    for (const auto& job : jobs) {
      if (!job->staged()) {
        cut(*job, job->units(), job->unit_bytes(), false);
        continue;
      }
      flush();
      job->open_stage();
      cut(*job, job->source().info->bytes, 1, true);
      flush();
      cut(*job, job->units(), job->unit_bytes(), false);
      flush();
      job->close_stage();
    }
    flush();
    while (exchange_ != nullptr && !exchange_->exchange(true, out_)) {
    }
  }

 private:
  [[nodiscard]] Executor& executor() const {
    return own_ != nullptr ? *own_ : options_.context->executor();
  }

  void cut(TensorJob& job, std::uint64_t units, std::uint64_t unit_bytes, bool stage) {
    const std::uint64_t step =
        std::max<std::uint64_t>(1, piece_bytes_ / std::max<std::uint64_t>(1, unit_bytes));
    for (std::uint64_t begin = 0; begin < units; begin += step) {
      pieces_.push_back({&job, begin, begin + std::min(step, units - begin), stage});
    }
  }

  /// Does all pieces that are waiting; where ranks share the work, a few at a time, and what came
  /// of them is sent.
  void flush() {
    const std::size_t step = exchange_ == nullptr ? pieces_.size() : workers_.size();
    for (next_ = 0, end_ = 0; end_ < pieces_.size();) {
      next_ = end_;
      end_ = std::min(pieces_.size(), end_ + step);
      work_together(end_ - next_);
      if (exchange_ != nullptr) exchange_->exchange(false, out_);
    }
    pieces_.clear();
  }

  /// The pieces from next_ to end_.
  void work_together(std::size_t count) {
    const auto workers = static_cast<std::int64_t>(std::min<std::size_t>(workers_.size(), count));
    // A worker takes pieces until there are none, so it does not matter how many really run.
    executor().parallel_for(workers, [this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) work(workers_[static_cast<std::size_t>(i)]);
    });
    if (error_) std::rethrow_exception(error_);
  }

  void work(Worker& worker) noexcept {
    try {
      while (!stop_) {
        const std::size_t index = next_++;
        if (index >= end_) return;
        if (options_.cancel != nullptr && options_.cancel->load()) {
          throw Error(ErrorCode::cancelled, "stopped; nothing was written");
        }
        const Piece& piece = pieces_[index];
        if (piece.stage) {
          piece.job->stage(piece.begin, piece.end);
        } else {
          piece.job->run(worker, piece.begin, piece.end, out_);
          report(piece);
        }
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stop_ = true;
    }
  }

  void report(const Piece& piece) {
    const TensorInfo& info = *piece.job->source().info;
    const std::uint64_t units = std::max<std::uint64_t>(1, piece.job->units());
    const std::uint64_t per_unit = info.bytes / units;
    const std::uint64_t rest = piece.end == units ? info.bytes - per_unit * units : 0;
    const std::lock_guard lock(mutex_);
    done_ += per_unit * (piece.end - piece.begin) + rest;
    if (options_.progress) options_.progress(done_, total_, info.name);
  }

  CheckpointWriter& out_;
  const JobOptions& options_;
  RankExchange* exchange_;         ///< null: this process does all
  std::shared_ptr<Executor> own_;  ///< where the caller brings none
  std::vector<Worker> workers_;
  std::uint64_t piece_bytes_ = 0;
  std::vector<Piece> pieces_;
  std::atomic<std::size_t> next_ = 0;
  std::size_t end_ = 0;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  std::exception_ptr error_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

void TensorJob::open_stage() {
  stage_ =
      std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(source_.info->bytes));
}

void TensorJob::stage(std::uint64_t begin, std::uint64_t end) {
  source_.read(begin, {stage_.get() + begin, static_cast<std::size_t>(end - begin)});
}

void run_jobs(std::vector<std::unique_ptr<TensorJob>>& jobs, CheckpointWriter& out,
              const JobOptions& options, RankExchange* exchange) {
  Runner(out, options, exchange).run(jobs);
}

}  // namespace kvant::io
