#!/usr/bin/env bash
# Writes a summary as one comment of a pull request: a comment the first time, then the same one again.
#
# NAME                 marks the comment
# SUMMARY              the text, a file; without it there is nothing to say
# NUMBER               of the pull request
# GITHUB_REPOSITORY, GH_TOKEN    as gh takes them
set -euo pipefail

[[ -f $SUMMARY ]] || exit 0
marker="<!-- timecli: $NAME -->"
comments=repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments
body=$(mktemp)
# GitHub takes 65536 characters.
{ printf '%s\n' "$marker" && head -c 60000 -- "$SUMMARY"; } >"$body"

# The number of our comment. Only a bot's counts: people can write the marker, too.
ours() {
    local number first found=""
    while IFS=$'\t' read -r number first; do
        [[ $first == "$marker" ]] && found=${found:-$number}
    done
    printf '%s' "$found"
}

write() {
    local found
    found=$(gh api --paginate "$comments" \
        --jq '.[] | select(.user.type == "Bot") | [.id, (.body | split("\n")[0] | rtrimstr("\r"))] | @tsv' | ours) || return
    if [[ -n $found ]]; then
        gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$found" -F "body=@$body"
    else
        gh api --silent --method POST "$comments" -F "body=@$body"
    fi
}

write || echo "::warning::The comment was not written; a pull request from a fork has no right to. Read the job's summary."
