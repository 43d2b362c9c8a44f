#!/bin/sh
# same_output.sh PROGRAM... - runs each and checks that all print the same, and something.
set -u
first=
bad=0
for program in "$@"; do
    if ! out=$("$program"); then
        echo "$program: failed"
        exit 1
    fi
    echo "$out $program"
    first=${first:-$out}
    [ "$out" = "$first" ] || bad=1
done
[ -n "$first" ] && [ $# -ge 2 ] && [ $bad = 0 ]
