#!/usr/bin/env bash
# Finds the manifests that a pull request changes, or all of them, and checks them with examples/git/check.sh.
#
# PATTERNS    which files are manifests, as git reads patterns, one a line
# BASE        commit that the pull request starts from; without it every manifest is checked
# and what examples/git/check.sh reads
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
mapfile -t patterns <<<"$PATTERNS"
for index in "${!patterns[@]}"; do
    [[ ${patterns[index]} == *[![:space:]]* ]] || unset "patterns[index]"
done
if ((${#patterns[@]} == 0)); then
    echo "The input manifests is empty; give it a pattern, such as edits/*.toml." >&2
    exit 2
fi

# A file between the two, since nobody sees the exit code of a substitution.
listed=$(mktemp)
if [[ -n ${BASE:-} ]]; then
    # A shallow checkout has the merge alone.
    git cat-file -e "$BASE^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$BASE"
    git diff -z --name-only --diff-filter=d "$BASE" HEAD -- "${patterns[@]}" >"$listed"
else
    git ls-files -z -- "${patterns[@]}" >"$listed"
fi
mapfile -d '' -t manifests <"$listed"
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
