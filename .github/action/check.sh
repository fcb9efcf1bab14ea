#!/usr/bin/env bash
# Finds the manifests that a pull request changes, or all of them, and checks them with examples/git/check.sh.
#
# PATTERNS    which files are manifests, as git reads patterns, one a line
# BASE        commit that the pull request starts from; without it every manifest is checked
# and what examples/git/check.sh reads
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
mapfile -t patterns < <(grep -v '^[[:space:]]*$' <<<"$PATTERNS")

if [[ -n ${BASE:-} ]]; then
    # A shallow checkout has the merge alone.
    git cat-file -e "$BASE^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$BASE"
    mapfile -d '' -t manifests < <(git diff -z --name-only --diff-filter=d "$BASE" HEAD -- "${patterns[@]}")
else
    mapfile -d '' -t manifests < <(git ls-files -z -- "${patterns[@]}")
fi
if ((${#manifests[@]} == 0)); then
    echo "No manifest to check."
    exit 0
fi

# What manifests say must not be read as commands of the runner.
word=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$word"
code=0
bash "$here/../../examples/git/check.sh" "${manifests[@]}" || code=$?
echo "::$word::"
cat -- "$REPORT/summary.md" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
exit "$code"
