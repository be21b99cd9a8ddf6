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
    # The runner marks issues with this sign; what belongs to one follows until the next sign of a test.
    awk '/^(✔|◇|✘) / { take = /^✘ Test .* recorded an issue/; lines = 0 } take && lines++ < 60' "$log" | cut -c 1-400 | tail -n 200
    tail -n 1 "$log"
fi
exit "$status"
