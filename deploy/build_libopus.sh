#!/bin/sh
# Builds the libopus of the wheel opuslib-next-bundled once more, for x86-64-v3: processors since about 2013, with AVX2.
# It comes from the wheel's source package, whose hash is in requirements.txt. Beside the wheel's own portable build,
# codec/libopus/builds.py chooses it at run time. On other machines than x86-64 nothing is built.
#
#   deploy/build_libopus.sh TOOLS DIRECTORY
#
# TOOLS is the bin directory of an environment with build-requirements.txt and pip. libopus.so is put into DIRECTORY.
# It needs a C compiler.
set -eu
tools=$(cd "$1" && pwd)
requirements=$(dirname "$0")/requirements.txt

if [ "$(uname -sm)" != "Linux x86_64" ]; then exit 0; fi

made=$(mktemp -d)
trap 'rm -r "$made"' EXIT
sed -n '/^opuslib-next-bundled==/,/[^\\]$/p' "$requirements" >"$made/requirements.txt"

# A wheel in pip's cache may have been built with other flags.
PATH=$tools:$PATH CFLAGS=-march=x86-64-v3 "$tools/python" -m pip wheel --quiet --no-cache-dir \
    --disable-pip-version-check --wheel-dir "$made" --require-hashes --no-deps --no-build-isolation \
    --no-binary opuslib-next-bundled -r "$made/requirements.txt"

"$tools/python" -m zipfile -e "$made"/opuslib_next_bundled-*.whl "$made/wheel"
mkdir -p "$2"
cp "$made/wheel/opuslib_next/_native/libopus.so" "$2/libopus.so.new"
mv "$2/libopus.so.new" "$2/libopus.so" # a process may have the former one in use
