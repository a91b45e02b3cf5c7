#!/bin/sh
# Make a virtual environment, or say in one line what is missing. Usage: make_venv.sh PYTHON FOLDER
python=$1 folder=$2
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "pynenc needs Python 3.11 or newer, and '$python' is $("$python" --version 2>&1); try: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
}
"$python" -m venv "$folder" || {
    rm -rf "$folder"
    echo "'$python' cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
}
