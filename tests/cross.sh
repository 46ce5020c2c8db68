#!/usr/bin/env bash
# Builds for another processor by Debian's cross compiler, and runs the tests of what computes under
# qemu-user, once for each model of that processor:
#
#   bash tests/cross.sh aarch64 cortex-a53=neon cortex-a76=neon_dotprod max=neon_i8mm
#   bash tests/cross.sh s390x max=scalar        big-endian, and so with the tests of files
#
# A model of qemu's, and the kernel set that must be chosen there. Libraries of that processor are
# unpacked into build-ARCH/sysroot; the system gets none.
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1
shift
triple=$arch-linux-gnu
debian=$arch
[ "$arch" != aarch64 ] || debian=arm64
suites=(unit core kernels linear)
[ "$arch" != s390x ] || suites+=(io)
programs=("${suites[@]/#/kvant_}")
programs=("${programs[@]/%/_tests}")
build=build-$arch
sysroot=$PWD/$build/sysroot

. src/cmake/packages.sh
require_packages "${kvant_build_packages[@]}" catch2 "g++-$triple" qemu-user

# The packages with libraries (the others are headers), by an apt with a state of its own.
fetch_libraries() {
  local state=$PWD/$build/apt
  local options=(-qq -o "Dir::State=$state" -o "Dir::Cache=$state" -o Dir::State::status=/dev/null
                 -o "APT::Architecture=$debian" -o "APT::Architectures=$debian" -o APT::Sandbox::User=)
  mkdir -p "$state/lists/partial" "$state/archives/partial"
  apt-get "${options[@]}" update
  (cd "$state" && apt-get "${options[@]}" download libfmt-dev libfmt9 libpcre2-dev libpcre2-8-0 \
    libutf8proc-dev libutf8proc2)
  for package in "$state"/*.deb; do dpkg-deb -x "$package" "$sysroot"; done
  rm -rf "$state"
}

grep -qs "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD\$" "$build/CMakeCache.txt" || rm -rf "$build"
[ -d "$sysroot" ] || fetch_libraries

echo "== $arch: build"
export PKG_CONFIG_LIBDIR=$sysroot/usr/lib/$triple/pkgconfig PKG_CONFIG_SYSROOT_DIR=$sysroot
cmake --preset release -B "$build" -DCMAKE_SYSTEM_NAME=Linux "-DCMAKE_SYSTEM_PROCESSOR=$arch" \
  "-DCMAKE_CXX_COMPILER=$triple-g++" "-DCMAKE_PREFIX_PATH=$sysroot/usr" \
  "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-$arch;-L;/usr/$triple" \
  -DKVANT_TESTS=ON -DKVANT_PROGRAM=OFF -DKVANT_WERROR=ON --log-level=WARNING >/dev/null
jobs=${KVANT_JOBS:-$(nproc)}
cmake --build "$build" -j "$jobs" --target "${programs[@]}" list_isa gpt_bigcode -- --quiet
ctest --test-dir "$build" --output-on-failure -R '^hygiene: isa_objects$'

run() { qemu-"$arch" -L "/usr/$triple" "$build/bin/$1" "${@:2}"; }
model=examples/models/tiny-code-model/model
logits() {  # kernel-set
  KVANT_ISA=$1 run gpt_bigcode $model --scheme llm-int8 \
    --ids 1,7,42,300,12,5,9,77 --tokens 8 --logits "$build/$1.safetensors"
}
export KVANT_TEST_REAL_SETS=1
labels=$(IFS='|'; echo "${suites[*]}")
for pair in "$@"; do
  export QEMU_CPU=${pair%=*}
  want=${pair#*=}
  echo "== $arch: $QEMU_CPU, kernel set $want"
  chosen=$(run list_isa --chosen)
  [ "$chosen" = "$want" ] || { echo "chosen is $chosen" >&2; exit 1; }
  ctest --test-dir "$build" --output-on-failure -j "$jobs" --timeout 600 -L "^($labels)\$"
  run gpt_bigcode $model --scheme llm-int8 --prompt 'template <typename T>' --tokens 16
  # The same bits as on the scalar set.
  logits "$want"
  [ "$want" = scalar ] || logits scalar
  cmp "$build/$want.safetensors" "$build/scalar.safetensors"
done
