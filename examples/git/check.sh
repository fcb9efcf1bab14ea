#!/usr/bin/env bash
# Checks manifests: forecasts each, and holds it to its thresholds where there is a model to draw with.
#
#     bash check.sh [MANIFEST ...]    every manifest in edits/ where none is named
#
# MODEL     model to forecast and draw with; without it manifests are validated only
# JUDGE     judge of the pictures, if it is not the folder judge next to the model
# VERIFY    no: draw nothing
# REPORT    folder for the reports and summary.md, report where nothing is said
#
# Every manifest is checked, whatever the others did. The exit code is 1 at the end if one of them failed.
set -uo pipefail

report=${REPORT:-report}
[[ $report == -* ]] && report=./$report
summary=$report/summary.md
details=$(mktemp) || exit 2
trap 'rm -f -- "$details"' EXIT
failed=0
number=0

if (($# == 0)); then
    shopt -s globstar nullglob
    set -- edits/**/*.toml
fi

# What an exit code of timecli says.
word() {
    case $1 in
    0) echo "holds" ;;
    1) echo "**threshold missed**" ;;
    2) echo "**refused**" ;;
    *) echo "**failed**" ;;
    esac
}

# A file's name with nothing in it that Markdown would read.
shown() {
    local LC_ALL=C
    printf '%s' "${1//[^A-Za-z0-9 .\/-]/?}"
}

# A file's name as one that every system has room for.
plain() {
    local LC_ALL=C
    printf '%s' "${1//[^A-Za-z0-9 ._\/-]/_}"
}

# Whether a path of the repository is a link, or lies behind one.
linked() {
    local path=$1
    while [[ ! -L $path ]]; do
        [[ $path == ?*/* && $1 != /* ]] || return 1
        path=${path%/*}
    done
}

# Runs a command, shows what it says and keeps it in a log.
logged() {
    local log=$1
    shift
    "$@" 2>&1 | tee -a -- "$log"
    return "${PIPESTATUS[0]}"
}

# One manifest: a row of the summary, and what was said where something failed.
check() {
    local manifest=$1 forecast=0 drawn=0 pictures="not drawn"
    local path=${manifest%.toml} place
    place=$(plain "$path")
    [[ $place == "$path" ]] || place+=-$number
    while [[ $place == *../* ]]; do place=${place//..\//}; done
    place=$report/$place
    mkdir -p -- "$(dirname -- "$place")"
    : >"$place.txt"
    if linked "$manifest"; then
        echo "timecli: this is a link, or behind one; put the manifest itself there." | tee -a -- "$place.txt"
        forecast=2
    else
        logged "$place.txt" timecli plan -- "$manifest" ${MODEL:+"$MODEL"} || forecast=$?
    fi
    if [[ -n ${MODEL:-} && ${VERIFY:-} != no ]] && ((forecast < 2)); then
        logged "$place.txt" timecli verify ${JUDGE:+--judge "$JUDGE"} --output "$place" --force -- "$manifest" "$MODEL" || drawn=$?
        pictures=$(word "$drawn")
    fi
    echo "| $(shown "$manifest") | $(word "$forecast") | $pictures |" >>"$summary"
    ((forecast == 0 && drawn == 0)) && return 0
    # An indented block, out of which no text of a manifest leads.
    { printf '\n**%s**\n\n' "$(shown "$manifest")" && tr '\r' '\n' <"$place.txt" | sed 's/^/    /'; } >>"$details"
    return 1
}

# A pull request can put links there, and whatever is written would land where they lead.
if linked "$report" || { [[ -e $report ]] && [[ -n $(find "$report" ! -type f ! -type d -print -quit) ]]; }; then
    echo "$(shown "$report") is a link or holds one; remove it, or choose another folder with REPORT." >&2
    exit 2
fi
mkdir -p -- "$report" || exit 2
printf '| manifest | forecast | pictures |\n|---|---|---|\n' >"$summary"
: >"$details"
for manifest; do
    echo "== $(shown "$manifest")"
    number=$((number + 1))
    check "$manifest" || failed=1
done
cat -- "$details" >>"$summary"
exit "$failed"
