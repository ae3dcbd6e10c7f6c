#!/usr/bin/env bash
# Builds an older revision beside this tree, and runs the scenario `upgrade` from it to this tree and back.
# Usage: upgrade-trial.sh REVISION   (CARGO_TARGET_DIR is the Makefile's)
set -euo pipefail
cd "$(dirname "$0")/../.."
old=$(git rev-parse --verify --short "$1^{commit}")
kept="$CARGO_TARGET_DIR/upgrade-trial/tasksync-$old"
if [[ ! -x $kept ]]; then
    tree=$(mktemp -d)
    trap 'git worktree remove --force "$tree"' EXIT
    git worktree add --quiet --detach "$tree" "$old"
    echo "Building $old: minutes the first time."
    # Its own folder: cargo compares ages, and would take this tree's build for the older revision's.
    (cd "$tree" && CARGO_TARGET_DIR="$CARGO_TARGET_DIR/upgrade-trial/build" cargo build --locked --quiet --release --bin tasksync)
    install -D "$CARGO_TARGET_DIR/upgrade-trial/build/release/tasksync" "$kept"
fi
echo "Building this tree."
cargo build --locked --quiet --release --workspace --all-features --bin tasksync --bin tasksync-loadtest
"$CARGO_TARGET_DIR/release/tasksync-loadtest" run upgrade \
    --tasksync "$CARGO_TARGET_DIR/release/tasksync" --earlier "$kept"
