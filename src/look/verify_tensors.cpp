#include "look/verify_tensors.hpp"

#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"

namespace kvant::look {
namespace {

/// A scale, table or the like belongs to a weight in its own form.
void verify_owner(const io::FindTensor& find, const io::TensorInfo& info,
                  const io::PartOfLayer& part, io::Findings& findings) {
  const std::string name = part.layer + std::string(part.form->codes());
  const io::TensorView weight = find(name);
  std::string wrong;
  if (weight.info == nullptr) {
    wrong = "there is no tensor " + io::in_quotes(name);
  } else if (io::form_of(find, *weight.info) != part.form) {
    wrong = io::in_quotes(name) + ", " +
            io::describe_tensor(weight.info->dtype, weight.info->shape) +
            ", is stored in another form";
  }
  if (wrong.empty()) return;
  findings.push_back({io::Severity::error, "scale",
                      "tensor " + io::in_quotes(info.name) + " belongs to no layer: " + wrong});
}

/// What the form of the layer that a tensor belongs to says, then NaN and infinities.
void verify_tensor(const io::FindTensor& find, const io::TensorView& view, bool foreign,
                   io::Findings& findings) {
  const std::string& name = view.info->name;
  bool scale = false;
  if (foreign) {
    // Another tool's form: its scales and codes are not known here.
  } else if (const io::StoredFormat* form = io::form_of(find, *view.info)) {
    form->verify_weight(find, view, findings);
    if (!form->holds_numbers()) return;
  } else if (const auto part = io::part_of_layer(find, name)) {
    verify_owner(find, *view.info, *part, findings);
    if (part->form->verify_part(find, view, findings)) return;  // has said all about its values
    scale = part->part->scale;
  }
  const io::OddValues odd = io::count_odd(view);
  if (odd.finite()) return;
  // A scale that is not a number spoils all weights that share it.
  findings.push_back({scale ? io::Severity::error : io::Severity::warning,
                      scale ? "scale" : "not_finite",
                      "tensor " + io::in_quotes(name) + " holds " + odd.text() + " values"});
}

}  // namespace

void TensorSet::add(const io::TensorFile& file) {
  files_.push_back(file);
  for (const io::TensorInfo& info : file.tensors()) by_name_.emplace(info.name, files_.size() - 1);
}

io::TensorView TensorSet::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? io::TensorView{} : files_[it->second].tensor(name);
}

void verify_tensors(const TensorSet& tensors, bool foreign, VerifyResult& result) {
  const io::FindTensor find = [&](const std::string& name) { return tensors.find(name); };
  for (const io::TensorFile& file : tensors.files()) {
    for (const io::TensorInfo& info : file.tensors()) {
      verify_tensor(find, file.tensor(info.name), foreign, result.findings);
      file.release(info.name);
    }
  }
}

}  // namespace kvant::look
