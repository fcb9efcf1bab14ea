#!/usr/bin/env bash
# Finds the manifests that a pull request changes, or all of them, and checks them with examples/git/check.sh.
#
# PATTERNS    which files are manifests, as git reads patterns, one a line
# BASE        commit that the pull request starts from; without it every manifest is checked
# MODEL, JUDGE, VERIFY    as examples/git/check.sh takes them
#
# Everything is written into a new folder outside the checkout, in which a pull request can put what it likes. Later
# steps find it as the output report.
set -euo pipefail

# What a checkout's configuration would have git run is not run.
git() { command git -c core.fsmonitor=false -c core.hooksPath=/dev/null "$@"; }

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
mapfile -t patterns <<<"$PATTERNS"
for index in "${!patterns[@]}"; do
    [[ ${patterns[index]} == *[![:space:]]* ]] || unset "patterns[index]"
done
if ((${#patterns[@]} == 0)); then
    echo "The input manifests is empty; give it a pattern, such as edits/*.toml." >&2
    exit 2
fi

folder=$(mktemp -d -- "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/timecli.XXXXXXXXXX")
# A file between the two, since nobody sees the exit code of a substitution.
listed=$folder/listed
export REPORT=$folder/report
if [[ -n ${BASE:-} ]]; then
    # A shallow checkout has the merge alone.
    git cat-file -e "$BASE^{commit}" 2>/dev/null || git fetch --quiet --no-recurse-submodules --depth=1 origin "$BASE"
    git diff -z --name-only --no-ext-diff --no-textconv --no-renames --diff-filter=d "$BASE" HEAD -- "${patterns[@]}" >"$listed"
else
    git ls-files -z -- "${patterns[@]}" >"$listed"
fi
mapfile -d '' -t manifests <"$listed"
if ((${#manifests[@]} == 0)); then
    echo "No manifest to check."
    exit 0
fi

mkdir -- "$REPORT"
printf 'report=%s\n' "$REPORT" >>"${GITHUB_OUTPUT:-/dev/null}"

# What manifests say must not be read as commands of the runner.
word=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$word"
code=0
bash "$here/../../examples/git/check.sh" "${manifests[@]}" || code=$?
echo "::$word::"
# GitHub takes a mebibyte.
head -c 1000000 -- "$REPORT/summary.md" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
exit "$code"
