#!/usr/bin/env bash
# Builds the image, pushes it, or saves it as an archive.
#
#   image.sh build IMAGE            with a Docker engine, or else with cargo and buildah
#   image.sh push IMAGE             to the registry that the name begins with
#   image.sh save IMAGE FILE        as a docker-archive, for clusters without a registry (kind, k3s)
#
# Variables: PROFILE is cargo's profile (release), without a Docker engine. STORAGE_DRIVER and BUILDAH_ISOLATION are
# buildah's own; in a container without overlay mounts they are vfs and chroot.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
verb=${1:-}
image=${2:-}

fail() {
    echo "image: $1" >&2
    exit "${2:-1}"
}

case "$verb" in
    build | push) [ $# -le 2 ] || fail "$verb takes one image" 2 ;;
    save) [ -n "${3:-}" ] || fail "save takes an image and a file" 2 ;;
    *) fail "usage: image.sh build|push IMAGE, or image.sh save IMAGE FILE" 2 ;;
esac
# The tag is everything behind the last colon, unless a slash follows it: that colon begins the registry's port.
tag=${image##*:}
if [ -z "$image" ] || [ "$tag" = "$image" ] || [[ "$tag" == */* ]]; then
    fail "IMAGE is \"$image\"; give a name with a tag, such as IMAGE=registry.example/tasksync:0.1.0" 2
fi

engine=buildah
if command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; then
    engine=docker
elif ! command -v buildah >/dev/null; then
    fail "there is neither a Docker engine nor buildah: start Docker, or install buildah (apt-get install buildah)"
fi

# Copies the executable, what it is linked with, and what name resolution and TLS need to the folder $1.
lay_out() {
    local root=$1 profile=${PROFILE:-release} folder library bundle
    folder=$profile
    [ "$profile" != dev ] || folder=debug
    # The build's own copy of the variable, since cargo's default is relative to the workspace.
    local target=${CARGO_TARGET_DIR:-$project/target}
    (cd "$project" && cargo build --locked --profile "$profile" --bin tasksync)
    mkdir -p "$root"/{usr/local/bin,etc/ssl/certs,var/lib,tmp,proc,run}
    cp "$target/$folder/tasksync" "$root/usr/local/bin/tasksync"
    strip --strip-debug "$root/usr/local/bin/tasksync"
    # Each line of ldd names a file: "libc.so.6 => /lib/…/libc.so.6 (0x…)" or "/lib64/ld-linux-x86-64.so.2 (0x…)".
    local libraries libc
    libraries=$(ldd "$target/$folder/tasksync" | sed -nE 's/^.*[[:space:]](\/[^ ]+) \(0x[0-9a-f]+\)$/\1/p')
    libc=$(grep -m1 '/libc\.so' <<<"$libraries") || fail "ldd shows no C library of $target/$folder/tasksync"
    # The C library before version 2.34 loads these by name when it looks up a host.
    for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
        libraries+=$'\n'$(dirname "$libc")/$library
    done
    while read -r library; do
        [ -e "$library" ] || continue
        mkdir -p "$root$(dirname "$library")"
        cp --dereference "$library" "$root$library"
    done <<<"$libraries"
    bundle=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}
    [ -s "$bundle" ] || fail "$bundle is missing: install ca-certificates, or set CA_BUNDLE to a file of authorities"
    cp --dereference "$bundle" "$root/etc/ssl/certs/ca-certificates.crt"
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    echo 'tasksync:x:65532:65532:tasksync:/var/lib/tasksync:/nonexistent' >"$root/etc/passwd"
    echo 'tasksync:x:65532:' >"$root/etc/group"
    # The licences of the C library and of GCC's runtime, where Debian keeps them.
    for library in libc6 libgcc-s1; do
        if [ -e "/usr/share/doc/$library/copyright" ]; then
            mkdir -p "$root/usr/share/doc/$library"
            cp --dereference "/usr/share/doc/$library/copyright" "$root/usr/share/doc/$library/copyright"
        fi
    done
    chmod -R u=rwX,go=rX "$root"
    chmod 1777 "$root/tmp"
}

build_with_buildah() {
    local work
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # The folder's name is known now.
    trap "rm -rf '$work'" EXIT
    mkdir "$work/state"
    lay_out "$work/root"
    # Only Docker's format of images holds a HEALTHCHECK. With a fixed time the same files make the same layer.
    buildah build --format docker --timestamp 0 --file "$here/Containerfile" --tag "$image" "$work"
}

case "$verb/$engine" in
    build/docker) docker build --file "$here/Dockerfile" --tag "$image" "$project" ;;
    build/buildah) build_with_buildah ;;
    push/docker) docker push "$image" ;;
    push/buildah) buildah push "$image" ;;
    save/docker) docker save --output "$3" "$image" ;;
    save/buildah) rm -f "$3" && buildah push "$image" "docker-archive:$3:$image" ;;
esac
