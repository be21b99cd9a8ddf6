#!/bin/bash
# Runs the built tests. Where some fail, what they said is repeated at the end: among some hundred suites it would scroll away.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
swift test --skip-build --disable-xctest 2>&1 | tee "$log"
status=$?
if [ "$status" -ne 0 ]; then
    echo "==> What failed"
    # The runner marks issues and failures with this sign; an issue's values follow on lines marked with an arrow.
    grep -a -A 3 '^✘' "$log" | grep -a '^[✘↳]' | cut -c 1-600 | tail -n 40
    tail -n 1 "$log"
fi
exit "$status"
