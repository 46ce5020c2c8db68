#include "look/verify_tensors.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "io/layers/quant_state.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/tensor.hpp"
#include "kvant/visit_dtype.hpp"
#include "look/text_table.hpp"

namespace kvant::look {
namespace {

struct Odd {
  std::uint64_t nan = 0;
  std::uint64_t infinite = 0;
  std::uint64_t negative = 0;
  [[nodiscard]] bool finite() const { return nan == 0 && infinite == 0; }
};

template <class T>
Odd count_odd_values(std::span<const std::byte> data) {
  constexpr std::size_t kChunk = 4096;
  std::array<T, kChunk> chunk{};
  Odd odd;
  for (std::size_t at = 0; at < data.size(); at += kChunk * sizeof(T)) {
    const std::size_t n = std::min(kChunk, (data.size() - at) / sizeof(T));
    std::memcpy(static_cast<void*>(chunk.data()), data.data() + at, n * sizeof(T));
    for (std::size_t i = 0; i < n; ++i) {
      const auto value = static_cast<double>(chunk[i]);
      // Most values are finite: one test for them.
      if (!(std::abs(value) <= std::numeric_limits<double>::max())) {
        (std::isnan(value) ? odd.nan : odd.infinite) += 1;
      }
      odd.negative += value < 0 ? 1u : 0u;
    }
  }
  return odd;
}

/// NaN, infinities and negative values of a floating-point tensor; zeros for other types.
Odd count_odd(const io::TensorView& view) {
  const DType dtype = view.info->dtype;
  const bool listed_only = dtype == DType::float6_e2m3fn || dtype == DType::float6_e3m2fn ||
                           dtype == DType::float4_e2m1fn;
  if (describe(dtype).kind != DTypeKind::floating || listed_only) return {};
  return visit_dtype(dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (std::is_same_v<T, double> || std::is_same_v<T, float>) {
      return count_odd_values<T>(view.data);
    } else if constexpr (requires(T value) { static_cast<float>(value); } &&
                         !std::is_integral_v<T>) {
      struct Narrow {
        T value;
        explicit operator double() const { return static_cast<double>(static_cast<float>(value)); }
      };
      return count_odd_values<Narrow>(view.data);
    } else {
      return Odd{};
    }
  });
}

std::string odd_text(const Odd& odd) {
  return std::to_string(odd.nan) + " NaN and " + std::to_string(odd.infinite) + " infinite";
}

class Checker {
 public:
  Checker(const TensorSet& tensors, VerifyResult& result) : tensors_(tensors), result_(result) {}

  void check(const io::TensorView& view) {
    const io::TensorInfo& info = *view.info;
    const std::string_view name = info.name;
    if (name.ends_with(".weight")) {
      check_weight(view);
    } else if (name.ends_with(".SCB")) {
      check_scb(view);
      return;  // has said all about its values
    } else if (name.ends_with(".weight_format")) {
      check_weight_format(view);
    }
    const Odd odd = count_odd(view);
    if (odd.finite()) return;
    // Scales of 4-bit weights: one that is no number spoils its whole block.
    const bool scale = is_4bit_part(name);
    add(scale ? io::Severity::error : io::Severity::warning, scale ? "scale" : "not_finite",
        named(name) + " holds " + odd_text(odd) + " values");
  }

 private:
  void add(io::Severity severity, const char* kind, const std::string& message) {
    add_finding(result_, severity, kind, message);
  }
  void error(const char* kind, const std::string& message) {
    add(io::Severity::error, kind, message);
  }
  static std::string named(std::string_view name) { return "tensor " + io::in_quotes(name); }
  static std::string describe_info(const io::TensorInfo& info) {
    return io::describe_tensor(info.dtype, info.shape);
  }

  void check_weight(const io::TensorView& view) {
    const io::TensorInfo& info = *view.info;
    const std::string module = info.name.substr(0, info.name.size() - 7);
    if (check_4bit(view)) return;
    if (info.dtype != DType::int8) return;
    if (info.shape.size() != 2) {
      error("codes", named(info.name) + " is " + describe_info(info) +
                         "; int8 codes of a linear layer have two dimensions");
    }
    const io::TensorView scb = tensors_.find(module + ".SCB");
    if (scb.info == nullptr) {
      error("scale", named(info.name) + " is int8, and its scales " +
                         io::in_quotes(module + ".SCB") + " are missing");
    } else if (info.shape.size() == 2 &&
               (scb.info->shape.size() != 1 || scb.info->shape[0] != info.shape[0])) {
      error("scale", named(scb.info->name) + " is " + describe_info(*scb.info) + ", but " +
                         io::in_quotes(info.name) + " has " + std::to_string(info.shape[0]) +
                         " outputs, which need one scale each");
    }
    const auto lowest = std::count(view.data.begin(), view.data.end(), std::byte{0x80});
    if (lowest > 0) {
      add(io::Severity::warning, "codes",
          named(info.name) + " holds " + counted(static_cast<std::uint64_t>(lowest), "code") +
              " of -128; the format uses -127 to 127");
    }
  }

  void check_scb(const io::TensorView& view) {
    const io::TensorInfo& info = *view.info;
    const std::string module = info.name.substr(0, info.name.size() - 4);
    const io::TensorView weight = tensors_.find(module + ".weight");
    if (weight.info == nullptr || weight.info->dtype != DType::int8) {
      error("scale",
            named(info.name) + " has scales, but " +
                (weight.info == nullptr ? "there is no " + io::in_quotes(module + ".weight")
                                        : io::in_quotes(module + ".weight") + " is " +
                                              describe_info(*weight.info) + ", not int8"));
    }
    if (info.dtype != DType::float32) {
      error("scale", named(info.name) + " is " + describe_info(info) + "; scales are F32");
    }
    const Odd odd = count_odd(view);
    if (!odd.finite()) error("scale", named(info.name) + " holds " + odd_text(odd) + " scales");
    if (odd.negative > 0) {
      error("scale", named(info.name) + " holds " + counted(odd.negative, "negative scale"));
    }
  }

  void check_weight_format(const io::TensorView& view) {
    const io::TensorInfo& info = *view.info;
    if (info.dtype != DType::uint8 || view.data.size() != 1) {
      error("weight_format", named(info.name) + " is " + describe_info(info) + "; one U8 is known");
    } else if (view.data[0] != std::byte{0}) {
      error("weight_format", named(info.name) + " is " +
                                 std::to_string(std::to_integer<unsigned>(view.data[0])) +
                                 "; only 0 (row-major) is known, others were layouts of old "
                                 "graphics cards: save the model again with bitsandbytes 0.45 or "
                                 "newer");
    }
  }

  [[nodiscard]] bool is_4bit_part(std::string_view name) const {
    const std::size_t at = name.rfind(".weight.");
    if (at == std::string_view::npos) return false;
    const std::string_view part = name.substr(at + 8);
    return part == "absmax" || part == "quant_map" || part == "nested_absmax" ||
           part == "nested_quant_map";
  }

  /// @return true if the weight is 4-bit, right or wrong
  bool check_4bit(const io::TensorView& view) {
    const std::string& weight = view.info->name;
    std::optional<io::QuantState> state;
    try {
      state = io::find_quant_state(weight,
                                   [&](const std::string& name) { return tensors_.find(name); });
    } catch (const io::FormatError& failure) {
      error("quant_state", failure.what());
      return true;
    }
    if (!state) return false;
    const std::uint64_t packed = (state->elements() + 1) / 2;
    if (view.data.size() != packed) {
      error("codes", named(weight) + " is " + describe_info(*view.info) + ", " +
                         std::to_string(view.data.size()) + " bytes; its quant_state says [" +
                         std::to_string(state->outputs) + ", " + std::to_string(state->inputs) +
                         "], " + std::to_string(packed) + " bytes");
    }
    const std::uint64_t blocks = state->blocks();
    require(weight + ".quant_map", DType::float32, 16);
    if (state->nested) {
      const auto size = static_cast<std::uint64_t>(state->nested_blocksize);
      require(weight + ".absmax", DType::uint8, blocks);
      require(weight + ".nested_absmax", DType::float32, (blocks + size - 1) / size);
      require(weight + ".nested_quant_map", DType::float32, 256);
    } else {
      require(weight + ".absmax", DType::float32, blocks);
    }
    return true;
  }

  void require(const std::string& name, DType dtype, std::uint64_t count) {
    const std::string wanted = std::string(describe(dtype).safetensors) + " of " +
                               counted(count, "element") + " is needed";
    const io::TensorView view = tensors_.find(name);
    const auto size = static_cast<std::uint64_t>(describe(dtype).bits / 8);
    if (view.info == nullptr) {
      error("scale", named(name) + " is missing: " + wanted);
    } else if (view.info->dtype != dtype || view.data.size() / size != count) {
      error("scale", named(name) + " is " + describe_info(*view.info) + "; " + wanted);
    }
  }

  const TensorSet& tensors_;
  VerifyResult& result_;
};

}  // namespace

void TensorSet::add(const io::SafeTensors& file) {
  files_.push_back(file);
  for (const io::TensorInfo& info : file.tensors()) by_name_.emplace(info.name, files_.size() - 1);
}

io::TensorView TensorSet::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? io::TensorView{} : files_[it->second].tensor(name);
}

void verify_tensors(const TensorSet& tensors, VerifyResult& result) {
  Checker checker(tensors, result);
  for (const io::SafeTensors& file : tensors.files()) {
    for (const io::TensorInfo& info : file.tensors()) {
      checker.check(file.tensor(info.name));
      file.release(info.name);
    }
  }
}

}  // namespace kvant::look
