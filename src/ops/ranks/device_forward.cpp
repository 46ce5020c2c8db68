#include "ops/ranks/device_forward.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "ops/support/arena.hpp"
#include "ops/support/border.hpp"
#include "ops/support/context_use.hpp"
#include "ops/support/device_data.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {
namespace {

/// Of a context's workspace: Linear::forward uses the others.
constexpr int kBlock = 3;

std::int64_t sum_of(std::span<const std::int64_t> widths) {
  return std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
}

std::int64_t element_bytes(DType dtype) noexcept {
  return describe(dtype).bits / 8;
}

/// Rows that follow each other in `data`.
AnyMatrix dense(std::byte* data, DType dtype, std::int64_t rows, std::int64_t cols) noexcept {
  return {data, dtype, rows, cols, cols};
}

/// A device copies rows that follow each other upwards.
void check_rows(const char* who, const char* what, const ConstAnyMatrix& m) {
  if (m.rows <= 1 || m.stride >= m.cols) return;
  fail(ErrorCode::unsupported, std::string(who) + ": on a device rows of " + what +
                                   " must be at least as far apart as they are long; " +
                                   shape_text(m.rows, m.cols) + " has row stride " +
                                   std::to_string(m.stride));
}

/// Columns of all ranks side by side.
class ColumnGatherer {
 public:
  ColumnGatherer(Context& context, Ranks& ranks, std::byte* parts)
      : memory_(*context.memory()), queue_(context.queue()), ranks_(ranks), parts_(parts) {}

  /// Bytes that gathering needs beside both matrices; a single row needs no rearranging.
  static std::int64_t room(std::int64_t rows, DType dtype, std::int64_t own, std::int64_t all) {
    return rows > 1 ? (rows * own + rows * all) * element_bytes(dtype) : 0;
  }

  void gather(const ConstAnyMatrix& mine, std::span<const std::int64_t> widths,
              const AnyMatrix& all) {
    const std::int64_t rows = mine.rows;
    const std::int64_t size = element_bytes(mine.dtype);
    std::vector<std::int64_t> bytes;
    for (const std::int64_t width : widths) bytes.push_back(rows * width * size);
    const auto own_bytes = static_cast<std::size_t>(rows * mine.cols * size);
    if (rows == 1) {
      ranks_.all_gather(memory_, queue_, {static_cast<const std::byte*>(mine.data), own_bytes},
                        bytes, static_cast<std::byte*>(all.data));
      return;
    }
    const auto* from = static_cast<const std::byte*>(mine.data);
    if (mine.stride != mine.cols) {
      copy(parts_, mine.cols * size, from, mine.stride * size, mine.cols * size, rows);
      from = parts_;
    }
    std::byte* const gathered = parts_ + own_bytes;
    ranks_.all_gather(memory_, queue_, {from, own_bytes}, bytes, gathered);
    const std::byte* part = gathered;
    auto* to = static_cast<std::byte*>(all.data);
    for (const std::int64_t width : widths) {
      copy(to, all.stride * size, part, width * size, width * size, rows);
      part += rows * width * size;
      to += width * size;
    }
  }

 private:
  void copy(void* to, std::int64_t to_step, const void* from, std::int64_t from_step,
            std::int64_t bytes, std::int64_t rows) {
    copy_rows_or_fail(memory_, to, static_cast<std::size_t>(to_step), from,
                      static_cast<std::size_t>(from_step), static_cast<std::size_t>(bytes),
                      static_cast<std::size_t>(rows), queue_);
  }

  const Memory& memory_;
  void* queue_;
  Ranks& ranks_;
  std::byte* parts_;
};

}  // namespace

void forward_on_devices(const char* who, Context& context, Ranks& ranks, const Linear& own,
                        ConstAnyMatrix x, AnyMatrix y, std::span<const std::int64_t> input_widths,
                        std::span<const std::int64_t> output_widths) {
  at_border(who, [&] {
    const ContextUse use(who, context);
    check_float(who, "x", x);
    check_float(who, "y", y);
    check_writable(who, "y", y);
    check_rows(who, "x", x);
    check_rows(who, "y", y);
    if (x.cols > 0) check_reachable(who, "x", x, context);
    check_reachable(who, "y", y, context);
    const std::int64_t inputs = sum_of(input_widths);
    const std::int64_t outputs = sum_of(output_widths);
    const std::int64_t share = output_widths[static_cast<std::size_t>(ranks.rank())];
    std::byte* whole = nullptr;
    std::byte* made = nullptr;
    std::byte* parts = nullptr;
    carve(context.workspace(), kBlock, [&](Arena& arena) {
      whole = arena.take<std::byte>(x.rows * inputs * element_bytes(x.dtype));
      made = arena.take<std::byte>(x.rows * share * element_bytes(y.dtype));
      parts =
          arena.take<std::byte>(std::max(ColumnGatherer::room(x.rows, x.dtype, x.cols, inputs),
                                         ColumnGatherer::room(x.rows, y.dtype, share, outputs)));
    });
    ColumnGatherer gatherer(context, ranks, parts);
    const AnyMatrix all = dense(whole, x.dtype, x.rows, inputs);
    const AnyMatrix mine = dense(made, y.dtype, x.rows, share);
    gatherer.gather(x, input_widths, all);
    if (share > 0) own.forward(context, all, mine);
    gatherer.gather(mine, output_widths, y);
  });
}

}  // namespace kvant::detail
