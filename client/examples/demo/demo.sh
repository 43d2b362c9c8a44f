#!/bin/sh
# demo.sh BUILD [DATA]: what `make demo` runs. See demo.py beside it.
exec python3 "$(dirname "$0")/demo.py" "$@"
