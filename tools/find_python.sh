#!/bin/sh
# Print the path of an interpreter of the version given (such as 3.13); nothing and exit code 1 where there is none.
# Each candidate is started: a version manager's shim lies on PATH also for versions that are not selected.
version=$1
for candidate in \
    "python$version" \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python \
    /opt/homebrew/bin/"python$version" \
    /usr/local/bin/"python$version"
do
    found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.executable)' 2>/dev/null) || continue
    case $found in
        "$version "*) printf '%s\n' "${found#* }"; exit 0 ;;
    esac
done
exit 1
