#!/usr/bin/env bash
# Checks the deployment files: the image's recipe, compose, Kubernetes, alerts and their tests, the dashboard, and
# what must agree between them. Takes the path of the executable, which it runs for `config check` and for the list of
# metrics.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tasksync=${1:?usage: check.sh PATH-OF-TASKSYNC}

tools=${XDG_CACHE_HOME:-$HOME/.cache}/tasksync/deploy-check
stamp=$tools/$(sha256sum "$here/requirements.txt" | cut -c1-16)
if [ ! -e "$stamp" ]; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    touch "$stamp"
fi
PATH=$tools/bin:$PATH exec "$tools/bin/python" "$here/check.py" "$tasksync"
