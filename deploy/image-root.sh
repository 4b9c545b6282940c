#!/bin/sh
# image-root.sh ROOT PROGRAM...: collects in the folder ROOT what these programs need to run, and
# nothing else: no shell, no package manager. Runs in a build stage of the Dockerfiles.
set -eu

root=$1
shift

mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs"
for program in "$@"; do
    if ! "$program" --version >/dev/null; then
        echo "$program does not run on this base image: where the C library of the machine that compiled it is newer, give a newer base with --build-arg BASE=..., or compile in Dockerfile.source" >&2
        exit 1
    fi
    cp "$program" "$root/usr/local/bin/"
done

# The shared libraries, and the loader itself, under their own paths.
ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// && $2 ~ /^\(/ { print $1 }' |
    sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

# Certificates, for stores that speak HTTPS.
if [ ! -s /etc/ssl/certs/ca-certificates.crt ]; then
    apt-get update
    apt-get install -y --no-install-recommends ca-certificates
fi
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

# A user of its own, and names from /etc/hosts before the DNS.
echo 'arustio:x:10001:10001:Arustio:/var/lib/arustio:/nologin' >"$root/etc/passwd"
echo 'arustio:x:10001:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
