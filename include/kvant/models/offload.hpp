#pragma once

/// @file
/// Which linear layers of a model lie on a device: what is asked for (Offload), and what became of
/// it (Placement).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvant/config.hpp"

namespace kvant {
struct KernelTable;
}

namespace kvant::models {

/// Linear layers on a device; all else of a model (embeddings, norms, attention, head) stays on the
/// host. Layers go there in the order in which they run, as long as there is memory for them.
struct Offload {
  /// The device's kernels (kernels_for("cuda")), which must outlive the model; null: no device.
  const KernelTable* device = nullptr;
  /// Bytes that the model may take there, what calls need included; nothing: most of what is free.
  std::optional<std::uint64_t> limit = {};
  /// Patterns over full layer names, as LoadOptions::skip: these layers stay on the host, in
  /// whatever format they have. A pattern that matches no layer is an error.
  std::vector<std::string> host = {};
  /// By the name of a layer, or of what it is a part of (transformer.h.0; "": of everything):
  /// whether it goes to the device. The longest such name decides, patterns before it; layers that
  /// have none go there. A name that nothing of the model has is an error.
  std::map<std::string, bool> map = {};
  /// Rows of the largest call, for which memory is kept; longer calls take more if there is any.
  std::int64_t rows = 512;
};

/// A map from a JSON file as accelerate writes them: {"model.layers.0": 0, "": "cpu"}; 0, "cuda"
/// and "cuda:0" are the device.
/// @throws FormatError json, duplicate, structure; Error io
[[nodiscard]] KVANT_API std::map<std::string, bool> read_device_map(
    const std::filesystem::path& file);

/// Where a linear layer is.
struct LayerPlace {
  std::string name;  ///< in the model
  bool on_device = false;
  std::size_t bytes = 0;    ///< that it holds there
  std::uint64_t needs = 0;  ///< bytes of the device, estimated before; 0: it has no kernels for it
  std::string reason;       ///< why it stayed on the host; the same words for the same reason
};

/// Where a model's linear layers are.
struct Placement {
  std::string device;              ///< the kernels' name
  std::uint64_t free_bytes = 0;    ///< of the device, before loading
  std::uint64_t limit = 0;         ///< bytes that the model may take of them
  std::uint64_t call_bytes = 0;    ///< of these for calls, as estimated before loading
  std::vector<LayerPlace> layers;  ///< in the order in which they were loaded

  [[nodiscard]] KVANT_API std::int64_t count(bool on_device) const;
  /// Of all layers there.
  [[nodiscard]] KVANT_API std::uint64_t bytes(bool on_device) const;
};

}  // namespace kvant::models
