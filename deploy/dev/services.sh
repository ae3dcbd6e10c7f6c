#!/usr/bin/env bash
# Installs missing tools, builds, and starts private Redis, RabbitMQ and PostgreSQL in a temporary folder:
#
#   deploy/dev/services.sh                      all of them until Ctrl-C; prints their URLs
#   deploy/dev/services.sh --redis --postgres   only these (--help lists all)
#   deploy/dev/services.sh -- cargo test        while the command runs, with the URLs in its environment
#
# Everything is removed at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/setup.sh"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tasksync/target}
cargo build --locked --quiet --manifest-path "$here/../../Cargo.toml" --bin tasksync-loadtest
exec "$CARGO_TARGET_DIR/debug/tasksync-loadtest" services "$@"
