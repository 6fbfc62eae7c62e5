#include "mobe/format.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "mobe/modeling_file.h"

namespace mobe {
namespace {

// Beside the experts, whatever the family calls that place.
std::string FactorName(const Family& family, int64_t layer, const char* before,
                       const MatrixKind& kind, const char* after,
                       int64_t group) {
  const std::string expert = TensorName(family, kind.expert, layer, 0);
  return fmt::format("{}.{}{}{}{}", expert.substr(0, expert.find(".experts.")),
                     before, kind.name, after,
                     group < 0 ? "" : fmt::format("_{}", group));
}

// The bases of a layer and kind for all experts (group -1) or for a group, in
// any form, be their planes linked already or not (Checkpoint::LinkPacked);
// null when there are none.
const TensorView* FindBases(const Family& family, const Checkpoint& checkpoint,
                            int64_t layer, const MatrixKind& kind,
                            int64_t group) {
  for (const auto name : {BasesName, LeftName, RightName}) {
    const TensorView* tensor =
        checkpoint.Find(name(family, layer, kind, group));
    if (tensor != nullptr) return tensor;
  }
  for (const FormatRow& format : Formats()) {
    if (!format.packed()) continue;
    const TensorView* codes = checkpoint.Find(
        PackedName(BasesName(family, layer, kind, group), format));
    if (codes != nullptr) return codes;
  }
  return nullptr;
}

// The same for any group. Fails when there are bases both for all experts and
// for a group.
const TensorView* FindBases(const Family& family, const Checkpoint& checkpoint,
                            int64_t layer, const MatrixKind& kind) {
  const TensorView* common = FindBases(family, checkpoint, layer, kind, -1);
  const TensorView* grouped = FindBases(family, checkpoint, layer, kind, 0);
  // Where the first is missing, still no plain model.
  if (grouped == nullptr) {
    grouped = FindBases(family, checkpoint, layer, kind, 1);
  }
  if (common != nullptr && grouped != nullptr) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensors {} and {} are both there, expected bases either for all "
         "experts or for groups of them",
         checkpoint.folder().string(), common->name, grouped->name);
  }
  return common != nullptr ? common : grouped;
}

bool HasAnyBases(const Family& family, const Checkpoint& checkpoint,
                 const ModelConfig& config) {
  for (const int64_t layer : config.MoeLayers()) {
    for (const MatrixKind& kind : kMatrixKinds) {
      if (FindBases(family, checkpoint, layer, kind) != nullptr) return true;
    }
  }
  return false;
}

Activation ReadActivation(const ConfigReader& reader) {
  const std::string name = reader.String("activation", "silu");
  const auto activation = ActivationFromName(name);
  if (!activation) reader.Reject("activation", "silu, tanh or identity");
  return *activation;
}

// Groups that the reference makes, if it makes any.
constexpr int64_t kReferenceGroups = 2;

// Fails unless experts and bases can be in the two groups that `bases` tells.
void CheckTwoGroups(const ConfigReader& reader, const TensorView& bases,
                    const ModelConfig& config) {
  const std::string expected = fmt::format(
      "an even number, since {} is of one of two expert groups", bases.name);
  if (reader.Size("num_B") % kReferenceGroups != 0) {
    reader.Reject("num_B", expected);
  }
  if (config.num_experts % kReferenceGroups != 0) {
    Fail(ErrorKind::kCorruptFile, "{}: {} experts, expected {}",
         reader.source(), config.num_experts, expected);
  }
}

// Of the reference, and of version 1: gate and up of the layers that have
// bases, all with num_B of them.
MobeFormat ReadUniform(const Family& family, const ConfigReader& reader,
                       const Checkpoint& checkpoint,
                       const ModelConfig& config) {
  MobeFormat format;
  int64_t groups = 0;  // the same everywhere, as in the first layer
  for (const int64_t layer : config.MoeLayers()) {
    const TensorView* gate = FindBases(family, checkpoint, layer, kGateKind);
    const TensorView* up = FindBases(family, checkpoint, layer, kUpKind);
    if ((gate != nullptr) != (up != nullptr)) {
      const bool has_gate = gate != nullptr;
      Fail(ErrorKind::kCorruptFile, "{}: layer {} has tensor {} but not {}",
           checkpoint.folder().string(), layer, (has_gate ? gate : up)->name,
           BasesName(family, layer, has_gate ? kUpKind : kGateKind));
    }
    if (gate == nullptr) continue;
    if (groups == 0) {
      const bool common =
          FindBases(family, checkpoint, layer, kGateKind, -1) != nullptr;
      if (!common) CheckTwoGroups(reader, *gate, config);
      groups = common ? 1 : kReferenceGroups;
    }
    for (const MatrixKind* kind : {&kGateKind, &kUpKind}) {
      format.factors.push_back(
          {layer, kind, reader.Size("num_B"), config.expert_size, 0, groups});
    }
  }
  format.activation = ReadActivation(reader);
  return format;
}

}  // namespace

MobeFormat ReadTable(const ConfigReader& reader, const ModelConfig& config) {
  MobeFormat format;
  format.activation = ReadActivation(reader);
  const Json rows = reader.json().value("factors", Json());
  if (!rows.is_array() || rows.empty()) {
    reader.Reject("factors", "a list of objects");
  }
  std::set<std::pair<int64_t, const MatrixKind*>> seen;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].is_object()) reader.Reject("factors", "a list of objects");
    const ConfigReader row(rows[i],
                           fmt::format("{}: factors[{}]", reader.source(), i));
    const MatrixKind* kind = KindFromName(row.String("matrix", ""));
    if (kind == nullptr) row.Reject("matrix", "gate, up or down");
    // Bounds that keep what is built from the factors within the size of the
    // original.
    const auto size_up_to = [&](const char* key, int64_t most,
                                const char* what) {
      const int64_t size = row.Size(key);
      if (size > most) {
        row.Reject(key, fmt::format("at most {} ({})", what, most));
      }
      return size;
    };
    const int64_t num_bases =
        size_up_to("num_B", config.num_experts, "the number of experts");
    const int64_t rank =
        size_up_to("rank", config.expert_size, "the size of the experts");
    const int64_t basis_rank =
        row.Has("basis_rank") ? size_up_to("basis_rank", rank, "\"rank\"") : 0;
    const int64_t groups = row.Size("groups", 1);
    if (num_bases % groups != 0 || config.num_experts % groups != 0) {
      row.Reject("groups",
                 fmt::format("a divisor of \"num_B\" ({}) and of the number of "
                             "experts ({})",
                             num_bases, config.num_experts));
    }
    for (const int64_t layer : row.Counts("layers")) {
      if (layer >= config.num_layers || !config.IsMoeLayer(layer)) {
        row.Reject("layers", "layers that have experts");
      }
      if (!seen.emplace(layer, kind).second) {
        Fail(ErrorKind::kCorruptFile, "{}: {} of layer {} is listed twice",
             row.source(), kind->name, layer);
      }
      format.factors.push_back(
          {layer, kind, num_bases, rank, basis_rank, groups});
    }
  }
  std::sort(format.factors.begin(), format.factors.end(),
            [](const FactorShape& a, const FactorShape& b) {
              return std::tie(a.layer, a.kind) < std::tie(b.layer, b.kind);
            });
  return format;
}

namespace {

MobeFormat ReadFormat(const Family& family, const ConfigReader& top,
                      const Checkpoint& checkpoint, const ModelConfig& config) {
  if (!top.Has("mobe")) return ReadUniform(family, top, checkpoint, config);
  const ConfigReader reader = top.Object("mobe");
  const int64_t version = reader.Size("version");
  if (version > kFormatVersion) {
    Fail(ErrorKind::kUnsupported,
         "{}: format version {}, this mobe knows versions 1 to {}; use a newer "
         "one",
         reader.source(), version, kFormatVersion);
  }
  if (version >= 2) return ReadTable(reader, config);
  MobeFormat format = ReadUniform(family, reader, checkpoint, config);
  if (reader.Has("layers") && reader.Counts("layers") != format.Layers()) {
    reader.Reject("layers", "the layers that have bases");
  }
  return format;
}

// One entry for each set of shapes, with the layers that have it.
Json FactorsJson(const MobeFormat& format) {
  Json rows = Json::array();
  for (const FactorShape& shape : format.factors) {
    Json row = {{"matrix", shape.kind->name},
                {"num_B", shape.num_bases},
                {"rank", shape.rank},
                {"layers", Json::array()}};
    if (shape.basis_rank != 0) row["basis_rank"] = shape.basis_rank;
    if (shape.groups != 1) row["groups"] = shape.groups;
    const auto same = std::find_if(rows.begin(), rows.end(), [&](Json other) {
      other["layers"] = Json::array();
      return other == row;
    });
    Json& entry =
        same == rows.end() ? rows.emplace_back(std::move(row)) : *same;
    entry["layers"].push_back(shape.layer);
  }
  return rows;
}

// What the reference can express.
bool IsReference(const MobeFormat& format, const ModelConfig& config) {
  const FactorShape& first = format.factors.front();
  if (format.activation == Activation::kIdentity ||
      (first.groups != 1 && first.groups != kReferenceGroups)) {
    return false;
  }
  std::vector<FactorShape> expected;
  for (const int64_t layer : config.MoeLayers()) {
    for (const MatrixKind* kind : {&kGateKind, &kUpKind}) {
      expected.push_back(
          {layer, kind, first.num_bases, config.expert_size, 0, first.groups});
    }
  }
  return format.factors == expected;
}

struct Range {
  int64_t least, most;
};
Range RangeOf(const MobeFormat& format, int64_t FactorShape::*field) {
  const auto [least, most] = std::minmax_element(
      format.factors.begin(), format.factors.end(),
      [&](const auto& a, const auto& b) { return a.*field < b.*field; });
  return {(*least).*field, (*most).*field};
}

// The kinds that are factored in any layer.
std::vector<const char*> KindNames(const MobeFormat& format) {
  std::vector<const char*> names;
  for (const MatrixKind& kind : kMatrixKinds) {
    for (const FactorShape& shape : format.factors) {
      if (shape.kind != &kind) continue;
      names.push_back(kind.name);
      break;
    }
  }
  return names;
}

}  // namespace

const MatrixKind* KindFromName(std::string_view name) {
  for (const MatrixKind& kind : kMatrixKinds) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

const MatrixKind* KindOf(Role role) {
  for (const MatrixKind& kind : kMatrixKinds) {
    if (kind.Has(role)) return &kind;
  }
  return nullptr;
}

const FactorShape* MobeFormat::Find(int64_t layer,
                                    const MatrixKind& kind) const {
  for (const FactorShape& shape : factors) {
    if (shape.layer == layer && shape.kind == &kind) return &shape;
  }
  return nullptr;
}

std::vector<int64_t> MobeFormat::Layers() const {
  std::vector<int64_t> layers;
  for (const FactorShape& shape : factors) {
    if (layers.empty() || layers.back() != shape.layer) {
      layers.push_back(shape.layer);
    }
  }
  return layers;
}

ExpertGroup GroupAt(const ModelConfig& config, const FactorShape& shape,
                    int64_t index) {
  const int64_t count = config.num_experts / shape.groups;
  return {index * count, count, shape.groups == 1 ? -1 : index};
}

std::vector<ExpertGroup> GroupsOf(const ModelConfig& config,
                                  const FactorShape& shape) {
  std::vector<ExpertGroup> groups;
  for (int64_t g = 0; g < shape.groups; ++g) {
    groups.push_back(GroupAt(config, shape, g));
  }
  return groups;
}

std::string BasesName(const Family& family, int64_t layer,
                      const MatrixKind& kind, int64_t group) {
  return FactorName(family, layer, "B_", kind, "", group);
}

std::string LeftName(const Family& family, int64_t layer,
                     const MatrixKind& kind, int64_t group) {
  return FactorName(family, layer, "B_", kind, "_U", group);
}

std::string RightName(const Family& family, int64_t layer,
                      const MatrixKind& kind, int64_t group) {
  return FactorName(family, layer, "B_", kind, "_V", group);
}

std::string AlphaName(const Family& family, int64_t layer,
                      const MatrixKind& kind, int64_t group) {
  return FactorName(family, layer, "W_", kind, "", group);
}

bool IsOnlyPacked(const ConfigReader& mobe) {
  return mobe.Size("version") == kFormatVersion && mobe.Has("packed") &&
         !mobe.Has("factors");
}

std::optional<MobeFormat> DetectFormat(const Family& family,
                                       const Checkpoint& checkpoint,
                                       const ModelConfig& config) {
  const ConfigReader top(checkpoint.config(), checkpoint.config_path());
  const bool any = HasAnyBases(family, checkpoint, config);
  if (!any && top.Has("mobe") && !IsOnlyPacked(top.Object("mobe"))) {
    Fail(ErrorKind::kMissing,
         "{}: the key \"mobe\" says that the model is factored, but {} has no "
         "bases, such as tensor {}",
         top.source(), checkpoint.folder().string(),
         BasesName(family, 0, kGateKind));
  }
  if (!any) return std::nullopt;
  MobeFormat format = ReadFormat(family, top, checkpoint, config);
  for (const int64_t layer : config.MoeLayers()) {
    for (const MatrixKind& kind : kMatrixKinds) {
      const TensorView* bases = FindBases(family, checkpoint, layer, kind);
      if (bases == nullptr || format.Find(layer, kind) != nullptr) continue;
      Fail(ErrorKind::kCorruptFile,
           "{}: tensor {} is there, but {} does not say how {} of layer {} is "
           "factored",
           checkpoint.FileOf(*bases), bases->name, top.source(), kind.name,
           layer);
    }
  }
  return format;
}

namespace {

// What a group of experts shares.
void AddShared(const Family& family, const ModelConfig& config,
               const ExpertGroup& group, const FactorShape& shape,
               std::vector<TensorSpec>* tensors) {
  const MatrixKind& kind = *shape.kind;
  const int64_t m = shape.num_bases / shape.groups;
  const int64_t k = shape.basis_rank;
  const auto add = [&](Role role, auto name, std::vector<int64_t> dims) {
    tensors->push_back({role, shape.layer, -1,
                        name(family, shape.layer, kind, group.index),
                        std::move(dims)});
  };
  if (k == 0) {
    add(kind.bases, BasesName, {m, shape.rank, config.hidden_size});
  } else {
    add(kind.left, LeftName, {m, shape.rank, k});
    add(kind.right, RightName, {m, k, config.hidden_size});
  }
  add(kind.alpha, AlphaName, {group.count, m});
}

}  // namespace

std::vector<TensorSpec> ListTensors(const Family& family,
                                    const ModelConfig& config,
                                    const MobeFormat& format) {
  std::vector<TensorSpec> tensors;
  for (TensorSpec& spec : ListTensors(family, config)) {
    const MatrixKind* kind = KindOf(spec.role);
    const FactorShape* shape =
        kind == nullptr ? nullptr : format.Find(spec.layer, *kind);
    if (shape == nullptr) {
      tensors.push_back(std::move(spec));
      continue;
    }
    const int64_t in_group = config.num_experts / shape->groups;
    if (spec.expert % in_group == 0) {
      AddShared(family, config, GroupAt(config, *shape, spec.expert / in_group),
                *shape, &tensors);
    }
    spec.shape = {config.expert_size, shape->rank};
    tensors.push_back(std::move(spec));
  }
  return tensors;
}

Json FormatTable(const MobeFormat& format) {
  return {{"version", 2},
          {"activation", ActivationName(format.activation)},
          {"factors", FactorsJson(format)}};
}

Json FactoredConfig(Json original, const ModelConfig& config,
                    const MobeFormat& format) {
  original = PlainConfig(std::move(original));  // a stray num_B would mislead
  if (IsReference(format, config)) {
    original["num_B"] = format.factors.front().num_bases;
    original["activation"] = ActivationName(format.activation);
  } else {
    original["mobe"] = FormatTable(format);
  }
  AddAutoMap(&original);
  return original;
}

Json PlainConfig(Json factored) {
  for (const char* key : {"num_B", "activation", "mobe"}) factored.erase(key);
  RemoveAutoMap(&factored);
  return factored;
}

Json DescribeFormat(const MobeFormat& format) {
  const auto value = [&](int64_t FactorShape::*field) {
    const auto [least, most] = RangeOf(format, field);
    return least == most ? Json(least) : Json();
  };
  return {{"num_bases", value(&FactorShape::num_bases)},
          {"rank", value(&FactorShape::rank)},
          {"basis_rank", value(&FactorShape::basis_rank)},
          {"groups", value(&FactorShape::groups)},
          {"activation", ActivationName(format.activation)},
          {"layers", format.Layers()},
          {"matrices", KindNames(format)},
          {"factors", FactorsJson(format)}};
}

std::string SummarizeFormat(const MobeFormat& format) {
  const auto value = [&](int64_t FactorShape::*field) {
    const auto [least, most] = RangeOf(format, field);
    return least == most ? fmt::format("{}", least)
                         : fmt::format("{} to {}", least, most);
  };
  std::string kinds;
  const std::vector<const char*> names = KindNames(format);
  for (size_t i = 0; i < names.size(); ++i) {
    kinds += i == 0 ? "" : i + 1 == names.size() ? " and " : ", ";
    kinds += names[i];
  }
  const std::string basis_rank = value(&FactorShape::basis_rank);
  const std::string groups = value(&FactorShape::groups);
  const size_t layers = format.Layers().size();
  return fmt::format(
      "{} of {} layer{}, {} bases of rank {}{}{}, {}", kinds, layers,
      layers == 1 ? "" : "s", value(&FactorShape::num_bases),
      value(&FactorShape::rank),
      basis_rank == "0" ? ""
                        : fmt::format(" (products of rank {})", basis_rank),
      groups == "1" ? "" : fmt::format(" in {} expert groups", groups),
      ActivationName(format.activation));
}

}  // namespace mobe
