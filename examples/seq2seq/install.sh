#!/usr/bin/env bash
# Installs what libtrain is built with, and the packages named as arguments, on Debian >= 12 and Ubuntu >= 24.04.
# Only what is missing is installed. Where that is not possible, it says exactly what to install, and stops with status 2.
set -euo pipefail

packages=(cmake ninja-build g++ libfmt-dev nlohmann-json3-dev libxxhash-dev libopenblas-openmp-dev libcli11-dev "$@")

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  {
    echo "install.sh: this is not Debian or Ubuntu. Please install: CMake >= 3.25, Ninja, a C++20 compiler with OpenMP, fmt,"
    echo "nlohmann-json, xxHash, CLI11 and OpenBLAS (built on OpenMP), each with headers. The packages are called on Debian:"
    echo "  ${packages[*]}"
    echo "Then configure and build by hand: cmake -S . -B build -DLIBTRAIN_TESTS=OFF -DLIBTRAIN_BENCH=OFF && cmake --build build"
  } >&2
  exit 2
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install.sh: packages are missing, and there is no sudo. Please run as root:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 2
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
