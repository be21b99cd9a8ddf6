#!/bin/sh
# Compiles Shaders/*.comp to a Swift file; the build calls it (Plugins/CompileShaders). Needs glslc (Debian package glslc).
# Shaders that know LOADS (see rays.comp) are compiled twice, the second time as NAMELoads.
#   scripts/compile-shaders.sh OUTPUT
set -eu
output=$1
cd "$(dirname "$0")/.."
command -v glslc >/dev/null || { echo "error: the shader compiler is missing; run scripts/install-packages.sh build" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    echo "// Made by scripts/compile-shaders.sh: SPIR-V in base 64."
    echo "let compiled: [String: String] = ["
    for file in $(cd Shaders && ls *.comp | LC_ALL=C sort); do
        for loads in "" Loads; do
            [ -z "$loads" ] || grep -q 'ifdef LOADS' "Shaders/$file" || continue
            glslc -O ${loads:+-DLOADS} --target-env=vulkan1.2 -IShaders/include -o "$work/words" "Shaders/$file"
            printf '    "%s": "%s",\n' "${file%.comp}$loads" "$(base64 -w 0 "$work/words")"
        done
    done
    echo "]"
} > "$work/output"
mv "$work/output" "$output"
