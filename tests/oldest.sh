#!/usr/bin/env bash
# The suite on the oldest libraries that pyproject.toml allows, in an environment of its own.
#   tests/oldest.sh                   the whole suite
#   tests/oldest.sh -m 'not slow'     what else is said goes to pytest
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q uv
"$work/venv/bin/uv" pip install -q --native-tls --python "$work/venv/bin/python" --resolution lowest-direct '.[test]'
"$work/venv/bin/stagewise" doctor
"$work/venv/bin/python" -m pytest "$@"
