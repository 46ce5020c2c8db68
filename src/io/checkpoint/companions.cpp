#include "io/checkpoint/companions.hpp"

#include <algorithm>
#include <set>
#include <system_error>

#include "io/file/checkpoint_layout.hpp"
#include "io/file/file_bytes.hpp"
#include "io/json/json_tree.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

namespace fs = std::filesystem;

/// HUB/models--NAME/blobs/HASH, which the snapshots of the Hugging Face cache link to.
bool is_blob(const fs::path& file) {
  const fs::path blobs = file.parent_path();
  return blobs.filename() == "blobs" &&
         blobs.parent_path().filename().string().starts_with("models--");
}

/// The parts of a sentence-transformers model that have folders of their own, weights included.
std::set<fs::path> module_folders(const fs::path& model) {
  std::set<fs::path> result;
  std::error_code error;
  const fs::path file = model / "modules.json";
  if (!fs::exists(file, error)) return result;
  // A list at the top, which the tree's reader does not take: as the value of an object.
  try {
    const FileBytes bytes = FileBytes::read(file, kMaxConfigBytes);
    const std::string text =
        "{\"modules\": " +
        std::string(reinterpret_cast<const char*>(bytes.bytes().data()), bytes.bytes().size()) +
        "}";
    const nlohmann::json json = parse_json_tree(std::as_bytes(std::span(text)), file.string());
    for (const nlohmann::json& module : json["modules"]) {
      const auto path = module.is_object() ? module.find("path") : module.end();
      if (!module.is_object() || path == module.end() || !path->is_string()) continue;
      if (!path->get<std::string>().empty()) result.insert(path->get<std::string>());
    }
  } catch (const Error&) {
    // Then it is a file like any other.
  }
  return result;
}

class Collector {
 public:
  Collector(const fs::path& model, const fs::path& output)
      : model_(model), modules_(module_folders(model)) {
    std::error_code error;
    root_ = fs::weakly_canonical(fs::absolute(model), error);
    output_ = fs::weakly_canonical(fs::absolute(output), error);
  }

  Companions collect() {
    add_folder({});
    std::sort(found_.files.begin(), found_.files.end());
    std::sort(found_.left.begin(), found_.left.end());
    return std::move(found_);
  }

 private:
  void leave(const fs::path& name, const char* why) {
    found_.left.push_back(in_quotes(name.generic_string()) + " (" + why + ")");
  }

  void add_folder(const fs::path& name) {
    for (const fs::directory_entry& entry : fs::directory_iterator(model_ / name)) {
      const fs::path inner = name / entry.path().filename();
      std::error_code error;
      const fs::file_status status = entry.symlink_status(error);
      if (fs::is_symlink(status)) {
        add_link(inner);
      } else if (fs::is_directory(status)) {
        add_inner_folder(inner);
      } else if (fs::is_regular_file(status)) {
        add_file(inner);
      } else {
        leave(inner, "no regular file");
      }
    }
  }

  void add_inner_folder(const fs::path& name) {
    const std::string last = name.filename().string();
    if (root_ / name == output_ || is_temporary(name)) return;  // what is being written
    if (last.starts_with('.')) return leave(name, "hidden");
    if (!modules_.contains(name) && holds_checkpoint(model_ / name)) {
      return leave(name, "another checkpoint");
    }
    add_folder(name);
  }

  /// OUT.tmpPID.N, or OUT.oldPID: an output's temporary folder.
  [[nodiscard]] bool is_temporary(const fs::path& name) const {
    const std::string text = (root_ / name).string();
    return text.starts_with(output_.string() + ".tmp") ||
           text.starts_with(output_.string() + ".old");
  }

  void add_file(const fs::path& name) {
    switch (role_of(name)) {
      case FileRole::weights:
      case FileRole::config: return;
      case FileRole::other_quantization: return leave(name, "describes another quantization");
      case FileRole::other_weights:
        if (!modules_.contains(name.parent_path())) {
          return leave(name, "weights in another format, or of another model");
        }
        break;
      case FileRole::companion:
      case FileRole::unknown: break;
    }
    found_.files.push_back(name);
  }

  void add_link(const fs::path& name) {
    const FileRole role = role_of(name);
    if (role != FileRole::companion && role != FileRole::unknown) return add_file(name);
    std::error_code error;
    const fs::path target = fs::canonical(model_ / name, error);
    const auto refuse = [&](const std::string& why) {
      throw Error(ErrorCode::io, (model_ / name).string() + ": is a link to " +
                                     fs::read_symlink(model_ / name, error).string() + ", " + why);
    };
    if (error) refuse("which is not there; a download may be incomplete");
    if (fs::is_directory(target, error)) return leave(name, "a link to a folder");
    if (!is_inside(target, root_) && !is_blob(target)) {
      refuse(
          "outside of the model's folder and of the Hugging Face cache; put a copy in its place if "
          "it belongs to the model");
    }
    add_file(name);
  }

  const fs::path& model_;
  std::set<fs::path> modules_;
  fs::path root_;
  fs::path output_;
  Companions found_;
};

}  // namespace

Companions find_companions(const fs::path& model, const fs::path& output) {
  try {
    return Collector(model, output).collect();
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorCode::io,
                error.path1().string() + ": cannot be read: " + error.code().message());
  }
}

}  // namespace kvant::io
