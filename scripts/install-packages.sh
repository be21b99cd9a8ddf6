#!/bin/sh
# Installs the Debian packages of the named sections of packages.txt that are missing. Quick when none is.
#   scripts/install-packages.sh build [test]
set -eu
cd "$(dirname "$0")"
wanted=$(awk -v sections=" $* " '
    /^# section:/ { take = index(sections, " " $3 " ") > 0; next }
    /^#/ || /^$/  { next }
    take          { print $1 }' packages.txt)
missing=""
for package in $wanted; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "Missing Debian packages:$missing" >&2; echo "Run as root: apt-get install$missing" >&2; exit 1; }
    as_root="sudo"
fi
echo "==> Installing Debian packages:$missing"
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
