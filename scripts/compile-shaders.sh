#!/bin/sh
# Compiles Shaders/*.comp to Shaders/spirv/shaders.inc, which is committed: a build needs no shader compiler. A test fails when
# the file does not belong to the sources. Needs glslc (Debian package glslc).
# Shaders that know LOADS (see rays.comp) are compiled twice, the second time as NAMELoads.
#   scripts/compile-shaders.sh [output]
set -eu
cd "$(dirname "$0")/.."
output=${1:-Shaders/spirv/shaders.inc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
names=$(cd Shaders && ls *.comp | LC_ALL=C sort)
{
    echo "// Made by scripts/compile-shaders.sh from Shaders/*.comp with $(glslc --version | head -1)."
    for file in $names; do
        for loads in "" Loads; do
            [ -z "$loads" ] || grep -q 'ifdef LOADS' "Shaders/$file" || continue
            glslc -O ${loads:+-DLOADS} --target-env=vulkan1.2 -IShaders/include -mfmt=num -o "$work/words" "Shaders/$file"
            printf 'static const uint32_t %sWords[] = {\n' "${file%.comp}$loads"
            cat "$work/words"
            printf '\n};\n'
            compiled="${compiled:-} ${file%.comp}$loads"
        done
    done
    echo 'static const GPUShader shaders[] = {'
    for name in $compiled; do printf '    { "%s", %sWords, sizeof %sWords },\n' "$name" "$name" "$name"; done
    echo '};'
    # Of all sources, in this order: shaders, then what they include.
    hash=$(cd Shaders && cat $names include/arithmetic.h include/parameters.h | sha256sum | cut -d' ' -f1)
    echo "static const char sourceHash[] = \"$hash\";"
} > "$work/output"
mv "$work/output" "$output"
