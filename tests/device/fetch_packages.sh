#!/usr/bin/env bash
# Makes the folder that tests/gpu.sh takes: fetch_packages.sh FOLDER downloads and unpacks, without installing, the Debian packages that
# libtrain and its tests are built with: some 50 MiB.
set -euo pipefail
folder=${1:?usage: fetch_packages.sh FOLDER}
mkdir -p "$folder"
folder=$(realpath "$folder")
downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
cd "$downloads"
apt-get download libfmt-dev libfmt9 nlohmann-json3-dev libxxhash-dev catch2 libopenblas0-openmp libopenblas-openmp-dev libgfortran5 \
  libgomp1
for package in *.deb; do dpkg -x "$package" "$folder"; done
# More than half of it all, and nothing that is linked: LAPACK, and BLAS as archives.
find "$folder" ! -type d \( -name 'libopenblas*.a' -o -name 'liblapack*' -o -name 'libblas.a' \) -delete
echo "unpacked $(ls ./*.deb | wc -l) packages into $folder"
