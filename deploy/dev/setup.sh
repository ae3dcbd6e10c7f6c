#!/usr/bin/env bash
# Installs what the tests need in addition to Rust, gcc and make: xmllint (validates request bodies against
# Microsoft's schema), Python with venv (runs independent clients against the simulated servers), promtool (tests the
# alerts), and Redis, RabbitMQ, PostgreSQL, Apache with NTLM and Kerberos, and MIT's key distribution centre, of which
# the tests start private instances. The packages' system services are not started, and no default PostgreSQL cluster
# is created. Does nothing if everything is installed.
set -euo pipefail

# True if a path matches the pattern.
present() {
    compgen -G "$1" >/dev/null
}

missing=()
command -v xmllint >/dev/null || missing+=(libxml2-utils)
command -v openssl >/dev/null || missing+=(openssl)
command -v setpriv >/dev/null || missing+=(util-linux)
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3 python3-venv)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v redis-cli >/dev/null || missing+=(redis-tools)
present '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' ||
    command -v rabbitmq-server >/dev/null || missing+=(rabbitmq-server)
present '/usr/lib/postgresql/*/bin/initdb' || command -v initdb >/dev/null || missing+=(postgresql)
command -v promtool >/dev/null || missing+=(prometheus)
command -v apache2 >/dev/null || missing+=(apache2)
present '/usr/lib/apache2/modules/mod_auth_gssapi.so' || missing+=(libapache2-mod-auth-gssapi)
present '/usr/lib/*/gssntlmssp/gssntlmssp.so' || missing+=(gss-ntlmssp)
command -v krb5kdc >/dev/null || missing+=(krb5-kdc)
command -v kadmin.local >/dev/null || missing+=(krb5-admin-server)
present '/usr/lib/python3/dist-packages/gssapi/__init__.py' || missing+=(python3-gssapi)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: please install what provides these Debian packages: ${missing[*]}" >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup: root (or sudo) is needed to install: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
fi

# While this runs, packages may not start services (policy-rc.d answers 101: not allowed), and PostgreSQL creates no
# cluster.
policy=/usr/sbin/policy-rc.d
saved_policy=$policy.before-tasksync
no_cluster=/etc/postgresql-common/createcluster.d/tasksync-setup.conf
restore() {
    "${as_root[@]}" rm -f "$no_cluster"
    if [ -e "$saved_policy" ]; then
        "${as_root[@]}" mv -f "$saved_policy" "$policy"
    else
        "${as_root[@]}" rm -f "$policy"
    fi
}
# First restores the policy that an interrupted run saved.
[ ! -e "$saved_policy" ] || "${as_root[@]}" mv -f "$saved_policy" "$policy"
trap restore EXIT
trap 'exit 130' INT TERM HUP
[ ! -e "$policy" ] || "${as_root[@]}" cp -p "$policy" "$saved_policy"
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy.new" >/dev/null
"${as_root[@]}" chmod 755 "$policy.new"
"${as_root[@]}" mv -f "$policy.new" "$policy"
"${as_root[@]}" mkdir -p "$(dirname "$no_cluster")"
echo 'create_main_cluster = false' | "${as_root[@]}" tee "$no_cluster" >/dev/null

echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
