#include "io/failing_calls.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <utility>

namespace {

std::atomic<bool> armed = false;
std::atomic<std::int64_t> calls_made = 0;
std::atomic<int> calls_failed = 0;
std::vector<std::int64_t> due;  // constant while armed
int failure_code = 0;

bool fails() {
  if (!armed) return false;
  const std::int64_t number = calls_made++;
  if (std::find(due.begin(), due.end(), number) == due.end()) return false;
  ++calls_failed;
  errno = failure_code;
  return true;
}

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if ((flags & O_CREAT) != 0 && fails()) return -1;
  return real<int(const char*, int, ...)>("open")(path, flags, mode);
}

ssize_t write(int file, const void* bytes, size_t size) {
  if (fails()) return -1;
  return real<ssize_t(int, const void*, size_t)>("write")(file, bytes, size);
}

ssize_t pwrite(int file, const void* bytes, size_t size, off_t offset) {
  if (fails()) return -1;
  return real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(file, bytes, size, offset);
}

int fsync(int file) {
  if (fails()) return -1;
  return real<int(int)>("fsync")(file);
}

int fallocate(int file, int mode, off_t offset, off_t size) {
  if (fails()) return -1;
  return real<int(int, int, off_t, off_t)>("fallocate")(file, mode, offset, size);
}

int mkdir(const char* path, mode_t mode) {
  if (fails()) return -1;
  return real<int(const char*, mode_t)>("mkdir")(path, mode);
}

int rename(const char* from, const char* to) {
  if (fails()) return -1;
  return real<int(const char*, const char*)>("rename")(from, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned int flags) {
  if (fails()) return -1;
  return real<int(int, const char*, int, const char*, unsigned int)>("renameat2")(
      from_folder, from, to_folder, to, flags);
}

}  // extern "C"

namespace kvant::test {

FailingCalls::FailingCalls(std::vector<std::int64_t> numbers, int code) {
  due = std::move(numbers);
  failure_code = code;
  calls_made = 0;
  calls_failed = 0;
  armed = true;
}

FailingCalls::~FailingCalls() {
  armed = false;
}

int FailingCalls::failed() const {
  return calls_failed;
}

}  // namespace kvant::test
