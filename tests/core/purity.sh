#!/bin/sh
# purity.sh LIBRARY [NM]: fails if the core's archive needs any symbol that is neither its own, nor
# libm's, nor one that compilers call by themselves. So no I/O, clock, thread, lock or allocation
# can get into it unseen. Instrumented builds bring the sanitizers' own symbols, which are let by.
set -eu

lib=$1
nm=${2:-nm}
undefined=$(mktemp)
defined=$(mktemp)
trap 'rm -f "$undefined" "$defined"' EXIT

# Thin archives name their members by path, so nm is run on the archive itself.
"$nm" -u "$lib" | awk 'NF >= 2 { print $NF }' | sort -u > "$undefined"
"$nm" --defined-only "$lib" | awk 'NF >= 3 { print $NF }' | sort -u > "$defined"

if ! [ -s "$defined" ]; then
    echo "purity: $lib defines nothing" >&2
    exit 1
fi

allowed='memcpy|memset|memmove|memcmp|bcmp'
allowed="$allowed|cos|exp|exp2|expm1|fabs|log|log1p|log2|sqrt|floor|ceil|fmax|fmin|frexp|ldexp|pow"
allowed="$allowed|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_"
allowed="$allowed|__u?(div|mod)ti3|__u?divmodti4" # division of 128-bit integers
allowed="$allowed|__(asan|ubsan|tsan|sanitizer|sancov|gcov|llvm)_.*|_?_?llvm_.*|__(start|stop)___sancov_.*"

outside=$(comm -23 "$undefined" "$defined")
bad=$(echo "$outside" | grep -Evx "$allowed" || true)
if [ -n "$bad" ]; then
    echo "purity: $lib needs what the core must not know:" >&2
    echo "$bad" >&2
    exit 1
fi
echo "purity: all allowed:" $outside
