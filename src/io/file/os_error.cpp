#include "io/file/os_error.hpp"

#include <cerrno>
#include <system_error>

#include "kvant/error.hpp"

namespace kvant::io {
namespace {

const char* advice(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT: return "; free some space or write to another disk, then run it again";
    case EFBIG: return "; raise the limit (ulimit -f) or write smaller files (shards)";
    case EACCES:
    case EPERM:
    case EROFS: return "; choose a folder that you may write to";
    case ENAMETOOLONG: return "; choose a shorter name";
    default: return "";
  }
}

}  // namespace

std::string os_error_text(int code) {
  return std::generic_category().message(code) + advice(code);
}

void throw_os_error(const std::string& path, const char* what, int code) {
  throw Error(ErrorCode::io, path + ": " + what + ": " + os_error_text(code));
}

}  // namespace kvant::io
