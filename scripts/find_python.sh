#!/bin/sh
# Print the path of a Python that can run this project: $PYTHON if it is set, else python3.11,
# else any python3 of 3.11 or newer.
#
# A candidate counts only once it has run: pyenv leaves a shim of every version on the PATH and
# most of them do nothing but fail. Of those that run, the first that can make an environment
# wins; if none can, the message says which package that Python lacks.
set -eu

candidates=${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14 python3.15 python}

# The modules that distributions put in packages of their own, or that a build of Python leaves
# out when a library was missing.
probe='
import sys
if sys.version_info < (3, 11):
    raise SystemExit("old")
missing = []
for module in ("venv", "ensurepip", "sqlite3", "ssl"):
    try:
        __import__(module)
    except ImportError:
        missing.append(module)
version = "%d.%d" % sys.version_info[:2]
print(version, sys.executable, *missing)
'

first_lacking=
for candidate in $candidates; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    facts=$("$path" -c "$probe" 2>/dev/null) || continue
    # shellcheck disable=SC2086  # split into the version, the path and what is missing
    set -- $facts
    if [ $# -eq 2 ]; then
        printf '%s\n' "$path"
        exit 0
    fi
    : "${first_lacking:=$facts}"
done

if [ -z "$first_lacking" ]; then
    cat >&2 <<EOF
No Python of 3.11 or newer runs here (tried: $candidates).
Install one, or name it: make demo PYTHON=/path/to/python3
EOF
    exit 1
fi

# shellcheck disable=SC2086
set -- $first_lacking
version=$1 path=$2
shift 2
cat >&2 <<EOF
$path is Python $version, but lacks: $*
EOF
case " $* " in
*" venv "* | *" ensurepip "*)
    cat >&2 <<EOF
It cannot make environments with pip inside. Install the package that brings venv and pip:
  Debian, Ubuntu:  apt-get install python$version-venv
  Fedora:          dnf install python3-pip
  elsewhere:       the package of the same Python called venv, ensurepip or pip
EOF
    ;;
*)
    cat >&2 <<EOF
This build of Python was made without them; install a complete one.
EOF
    ;;
esac
echo "Or name another Python: make demo PYTHON=/path/to/python3" >&2
exit 1
