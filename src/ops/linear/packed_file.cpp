// Packed weights in a file, as they are in memory: a header of fixed size, then the arrays, each at
// a multiple of 4096 bytes so that a mapping of them is aligned. Everything in the header is
// checked before it is used; the arrays are not read (any bytes are codes and numbers).

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "kvant/context.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/mapped_file.hpp"
#include "ops/support/validate.hpp"

#if defined(__unix__)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace kvant {

using namespace detail;

namespace {

constexpr std::array<char, 8> kMagic = {'K', 'V', 'P', 'A', 'C', 'K', 'E', 'D'};
constexpr std::uint32_t kVersion = 5;
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::uint64_t kPage = 4096;
constexpr auto kSections = static_cast<std::size_t>(PackedWeights::State::kSections);
constexpr const char* kSectionNames[kSections] = {"codes", "scales", "absmax", "offsets"};

struct FileHeader {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t byte_order;
  char format[16];      ///< WeightFormatInfo::name
  char packed_for[16];  ///< the kernel set
  std::int32_t nr, kr, k_pad, align, activations, zero_points, wide_scales, unused;
  std::int64_t n, k, block, group;
  struct {
    std::uint64_t offset, bytes;
  } sections[kSections];
  std::uint64_t file_bytes;
  std::uint64_t checksum;  ///< of the header before it
};
static_assert(sizeof(FileHeader) == 192 && std::is_trivially_copyable_v<FileHeader>);

/// FNV-1a: tells a damaged header from a whole one.
std::uint64_t checksum_of(const FileHeader& header) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  for (std::size_t i = 0; i < offsetof(FileHeader, checksum); ++i) {
    hash = (hash ^ bytes[i]) * 0x100000001b3u;
  }
  return hash;
}

template <std::size_t kSize>
void copy_name(char (&to)[kSize], std::string_view name) noexcept {
  std::memset(to, 0, kSize);
  std::memcpy(to, name.data(), std::min(name.size(), kSize - 1));
}
template <std::size_t kSize>
std::string name_in(const char (&from)[kSize]) {
  return {from, strnlen(from, kSize)};
}

std::string layout_text(const WeightLayout& layout, std::int32_t format) {
  return "panels of " + std::to_string(layout.nr) + " outputs, groups of " +
         std::to_string(layout.kr) + ", inputs padded to " + std::to_string(layout.k_pad) +
         ", activations in format " + std::to_string(format);
}

/// A name beside `place` that no other thread or process takes at the same time.
std::string temporary_name(const std::string& place) {
  static std::atomic<unsigned> count = 0;
  std::string name = place + ".tmp";
#if defined(__unix__)
  name += std::to_string(::getpid());
#endif
  return name + "." + std::to_string(count++);
}

/// Makes a file's bytes durable before it gets its name: a crash must not leave an empty file in
/// the place of a good one. @throws Error io
void sync_file(const char* who, const std::string& file) {
#if defined(__unix__)
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  const bool done = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!done) fail(ErrorCode::io, std::string(who) + ": " + file + ": " + std::strerror(error));
#else
  static_cast<void>(who);
  static_cast<void>(file);
#endif
}

/// A file being read: its name for messages, and its rules.
class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), file_(map_file(kWho, path)) {}

  std::shared_ptr<PackedWeights::State> read() {
    read_header();
    auto state = std::make_shared<PackedWeights::State>();
    describe_to(*state);
    map_sections(*state);
    state->mapping = file_.owner;
    return state;
  }

  static constexpr const char* kWho = "PackedWeights::map";

 private:
  [[noreturn]] void broken(const std::string& what) const {
    fail(ErrorCode::invalid_file, std::string(kWho) + ": " + path_ + ": " + what);
  }

  void read_header() {
    if (file_.bytes.size() < sizeof(FileHeader) ||
        std::memcmp(file_.bytes.data(), kMagic.data(), kMagic.size()) != 0) {
      broken("not a file of packed weights (" + std::to_string(file_.bytes.size()) + " bytes)");
    }
    std::memcpy(&header_, file_.bytes.data(), sizeof(header_));
    if (header_.byte_order != kByteOrder) broken("written on a machine of another byte order");
    if (header_.version != kVersion) {
      broken("version " + std::to_string(header_.version) + "; this library reads version " +
             std::to_string(kVersion) + ": write it again");
    }
    if (header_.checksum != checksum_of(header_)) broken("the header is damaged");
    if (header_.file_bytes != file_.bytes.size()) {
      broken(std::to_string(file_.bytes.size()) + " bytes, the header says " +
             std::to_string(header_.file_bytes));
    }
  }

  void describe_to(PackedWeights::State& s) const {
    const std::string name = name_in(header_.format);
    const auto format = weight_format_from_name(name);
    if (!format) broken("weights in a format \"" + name + "\" that this library does not have");
    s.format = *format;
    s.packed_for = name_in(header_.packed_for);
    s.n = header_.n;
    s.k = header_.k;
    s.block = header_.block;
    s.zero_points = header_.zero_points != 0;
    s.group = header_.group;
    s.wide_scales = header_.wide_scales != 0;
    s.kernels.layout = {header_.nr, header_.kr, header_.k_pad, header_.align};
    s.kernels.activations = static_cast<ActivationFormat>(header_.activations);
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    const bool sane = header_.nr > 0 && header_.nr <= 128 && header_.kr > 0 && header_.kr <= 64 &&
                      header_.k_pad > 0 && header_.k_pad <= 4096 &&
                      header_.k_pad % header_.kr == 0 && header_.align > 0 && header_.align <= 64 &&
                      header_.activations >= 0 && header_.activations <= 4 && s.n > 0 &&
                      s.n < kMost && s.k >= 0 && s.k < kMost && s.block >= 0 && s.block < kMost &&
                      static_cast<std::uint64_t>(s.n) <=
                          header_.file_bytes * 2 / static_cast<std::uint64_t>(s.k == 0 ? 1 : s.k);
    const WeightFormatInfo& info = kvant::describe(s.format);
    if (!sane || (!info.is_float() && s.k > kMaxInnerDimension) ||
        (info.block == 0) != (s.block == 0) || !sane_groups(s)) {
      broken("impossible shape or layout: " + shape_text(s.n, s.k) + ", " +
             layout_text(s.layout(), header_.activations));
    }
  }

  /// What concerns codes in groups; knows the padded K from here on.
  bool sane_groups(PackedWeights::State& s) const {
    s.k_padded = s.layout().padded_k(s.k);
    const WeightFormatInfo& info = kvant::describe(s.format);
    if (s.wide_scales && s.format != WeightFormat::int8_group) return false;
    if (s.is_groups()) {
      const bool own_block = s.format == WeightFormat::int8_group || s.block == info.block;
      const bool whole = !info.is_gguf() || s.k % info.gguf_elements == 0;
      return s.k_padded % 64 == 0 && (s.block % 32 == 0 || own_block) && own_block && whole &&
             !s.zero_points &&
             s.group == PackedWeights::State::group_for(s.format, s.k, s.k_padded, s.block);
    }
    if (!s.is_nibbles()) return s.group == 0 && !s.zero_points;
    if (s.group == 0) return s.layout() == WeightLayout{.k_pad = 8} && !s.zero_points;
    const bool known = s.layout().kr == 8 || (s.layout().kr == 32 && s.layout().nr == 1 &&
                                              s.k_padded % 128 == 0 && s.layout().align == 16);
    return known && s.k_padded % 64 == 0 && s.block % 32 == 0 &&
           (info.zero_points || !s.zero_points) &&
           s.group == PackedWeights::State::group_for(s.format, s.k, s.k_padded, s.block);
  }

  /// The bytes of section i, which must be as many as the shape asks for.
  template <class T>
  void map_section(detail::Section<T>& section, std::size_t i, std::int64_t count) {
    const auto [offset, bytes] = header_.sections[i];
    const auto want = static_cast<std::uint64_t>(count) * sizeof(T);
    if (bytes != want || offset % kPage != 0 || offset > header_.file_bytes ||
        bytes > header_.file_bytes - offset) {
      broken(std::string(kSectionNames[i]) + ": " + std::to_string(bytes) + " bytes at " +
             std::to_string(offset) + " of " + std::to_string(header_.file_bytes) + "; " +
             std::to_string(want) + " bytes are wanted");
    }
    if (count == 0)
      return;  // what is absent is a null pointer, as in weights that were packed here
    section.map(reinterpret_cast<const T*>(file_.bytes.data() + offset),
                static_cast<std::size_t>(count));
  }

  void map_sections(PackedWeights::State& s) {
    const std::int64_t padded_n = s.layout().padded_n(s.n);
    const bool is_float = kvant::describe(s.format).is_float();
    const bool offsets = s.kernels.activations == ActivationFormat::u8_offset;
    map_section(s.codes, 0, s.codes_bytes());
    const bool codes_alone = s.format == WeightFormat::int8_row && header_.sections[1].bytes == 0;
    map_section(s.scales, 1,
                is_float || codes_alone || s.has_inline_scales() ? 0 : padded_n * s.row_scales());
    const bool has_absmax = s.format == WeightFormat::int8_row && !codes_alone;
    map_section(s.absmax, 2, has_absmax ? padded_n : 0);
    map_section(s.offsets, 3, offsets ? padded_n : 0);
  }

  const std::string& path_;
  MappedFile file_;
  FileHeader header_{};
};

}  // namespace

void PackedWeights::save(const std::string& file) const {
  at_border("PackedWeights::save", [&] { save_as(file); });
}

void PackedWeights::save_as(const std::string& file) const {
  constexpr const char* kWho = "PackedWeights::save";
  if (n() == 0) {
    fail(ErrorCode::invalid_argument, std::string(kWho) + ": there are no weights to save");
  }
  const auto on_host = State::on_host(state_);
  const State& s = *on_host;
  FileHeader header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.byte_order = kByteOrder;
  copy_name(header.format, to_string(s.format));
  copy_name(header.packed_for, s.packed_for);
  header.nr = s.layout().nr;
  header.kr = s.layout().kr;
  header.k_pad = s.layout().k_pad;
  header.align = s.layout().align;
  header.activations = static_cast<std::int32_t>(s.kernels.activations);
  header.n = s.n;
  header.k = s.k;
  header.block = s.block;
  header.group = s.group;
  header.zero_points = s.zero_points ? 1 : 0;
  header.wide_scales = s.wide_scales ? 1 : 0;
  std::uint64_t end = sizeof(header);
  std::size_t section = 0;
  State::for_each_section(s, [&](const auto& part) {
    end = (end + kPage - 1) / kPage * kPage;
    header.sections[section++] = {end, part.bytes()};
    end += part.bytes();
  });
  header.file_bytes = end;
  header.checksum = checksum_of(header);

  // Written beside its place, then moved there. Renaming over a device would replace it.
  std::error_code ignored;
  std::filesystem::path place = file;
  if (std::filesystem::is_symlink(place, ignored)) {
    place = std::filesystem::weakly_canonical(place, ignored);
  }
  const auto there = std::filesystem::status(place, ignored).type();
  if (there != std::filesystem::file_type::not_found &&
      there != std::filesystem::file_type::regular) {
    fail(ErrorCode::io, std::string(kWho) + ": " + file + ": is there and not a regular file");
  }
  const std::string temporary = temporary_name(place.string());
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(&header), sizeof(header));
    std::uint64_t at = sizeof(header);
    section = 0;
    const std::array<char, kPage> zeros{};
    State::for_each_section(s, [&](const auto& part) {
      const std::uint64_t offset = header.sections[section++].offset;
      out.write(zeros.data(), static_cast<std::streamsize>(offset - at));
      out.write(reinterpret_cast<const char*>(part.data()),
                static_cast<std::streamsize>(part.bytes()));
      at = offset + part.bytes();
    });
    out.flush();
    if (!out) {
      const int error = errno;
      out.close();
      std::filesystem::remove(temporary, ignored);
      fail(ErrorCode::io, std::string(kWho) + ": " + temporary + ": " +
                              (error != 0 ? std::strerror(error) : "cannot be written"));
    }
  }
  try {
    sync_file(kWho, temporary);
  } catch (const Error&) {
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  std::error_code error;
  std::filesystem::rename(temporary, place, error);
  if (error) {
    std::filesystem::remove(temporary, ignored);
    fail(ErrorCode::io, std::string(kWho) + ": " + file + ": " + error.message());
  }
}

PackedWeights PackedWeights::map(Context& context, const std::string& file, Repack repack) {
  return at_border(Reader::kWho, [&] {
    auto state = Reader(file).read();
    const GemmKernels& kernels = context.kernels().gemm_for(state->format);
    if (state->lie_for(kernels)) {
      if (!state->is_plain_nibbles()) state->kernels = kernels;
      return PackedWeights(State::placed(context, std::move(state)));
    }
    if (repack == Repack::never) {
      const GemmKernels& have = state->kernels;
      fail(ErrorCode::unsupported,
           std::string(Reader::kWho) + ": " + file + " is packed for \"" + state->packed_for +
               "\" (" + layout_text(have.layout, static_cast<std::int32_t>(have.activations)) +
               "), the context runs \"" + context.kernels().name +
               "\"; save it again there, or let map repack it");
    }
    return repacked(context, PackedWeights(std::move(state)));
  });
}

}  // namespace kvant
