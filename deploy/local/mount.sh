#!/bin/sh
# mount.sh [PATH [URI]]: mounts the bucket of the MinIO that runs beside Arustio; /data and
# s3://arustio unless given. Where it is mounted already it says so, which is no failure; the
# credentials are tried before, so that wrong ones are told in any case.
#
# The credentials are those that MinIO was started with, or MINIO_ROOT_USER and MINIO_ROOT_PASSWORD
# where they are set. They go through the environment of `docker exec`, never on a command line.
#
#   ARUSTIO_SERVICE    the service that the command is run in (arustio)
#   ARUSTIO_ENDPOINT   where the containers reach the store (http://minio:9000)
#   ARUSTIO_WAIT       seconds to wait for Arustio and MinIO together (60)
set -u
cd "$(dirname "$0")/.." || exit 1

path=${1:-/data}
uri=${2:-s3://arustio}
service=${ARUSTIO_SERVICE:-arustio}
endpoint=${ARUSTIO_ENDPOINT:-http://minio:9000}
wait=${ARUSTIO_WAIT:-60}

fail() {
    echo "mount.sh: $*" >&2
    exit 1
}

if command -v docker-compose >/dev/null 2>&1; then
    compose="docker-compose"
elif docker compose version >/dev/null 2>&1; then
    compose="docker compose"
else
    fail "neither docker-compose nor docker compose is installed"
fi

# The container of a service.
container() {
    id=$($compose ps -q "$1" 2>/dev/null | head -n 1)
    [ -n "$id" ] || fail "the service $1 has no container: start it with: $compose up -d"
    echo "$id"
}

# Says once what is waited for, and gives up after a while.
deadline=$(($(date +%s) + wait))
said=
wait_for() {
    if [ "$said" != "$1" ]; then
        echo "waiting for $1" >&2
        said=$1
    fi
    [ "$(date +%s)" -lt "$deadline" ] || fail "gave up after $wait s of waiting for $1 (look at: $compose logs)"
    sleep 1
}

server=$(container "$service") || exit 1
minio=$(container minio) || exit 1

until answer=$(docker exec "$server" arustio-server health --ready 2>&1); do
    wait_for "$service: $(echo "$answer" | tail -n 1)"
done

of_minio() {
    docker exec "$minio" /bin/sh -c "printf %s \"\$$1\"" 2>/dev/null
}
ACCESS_KEY_ID=${MINIO_ROOT_USER:-}
until [ -n "$ACCESS_KEY_ID" ] || ACCESS_KEY_ID=$(of_minio MINIO_ROOT_USER); do
    wait_for "MinIO: its container does not run"
done
SECRET_ACCESS_KEY=${MINIO_ROOT_PASSWORD:-}
until [ -n "$SECRET_ACCESS_KEY" ] || SECRET_ACCESS_KEY=$(of_minio MINIO_ROOT_PASSWORD); do
    wait_for "MinIO: its container does not run"
done
export ACCESS_KEY_ID SECRET_ACCESS_KEY

arustio_mount() {
    docker exec -e ACCESS_KEY_ID -e SECRET_ACCESS_KEY "$server" arustio fs mount "$@" \
        -o access_key_id=env:ACCESS_KEY_ID -o secret_access_key=env:SECRET_ACCESS_KEY \
        -o endpoint="$endpoint" "$path" "$uri" 2>&1
}

# What went wrong, in one line. Exit codes of arustio: 5 is a refusal of the store.
refused() {
    case $1:$2 in
    5:*InvalidAccessKeyId*)
        fail "wrong credentials: MinIO knows no user \"$ACCESS_KEY_ID\" (MINIO_ROOT_USER)" ;;
    5:*SignatureDoesNotMatch*)
        fail "wrong credentials: the password of the user \"$ACCESS_KEY_ID\" is another one (MINIO_ROOT_PASSWORD)" ;;
    *) fail "$(echo "$2" | tr '\n' ' ')" ;;
    esac
}

# A mount that stands is not tried again by mounting it, so the store is asked first. 7: nobody
# answers.
while :; do
    answer=$(arustio_mount --check)
    code=$?
    [ $code -eq 7 ] || break
    wait_for "MinIO at $endpoint"
done
[ $code -eq 0 ] || refused $code "$answer"

answer=$(arustio_mount)
code=$?
[ $code -eq 0 ] || refused $code "$answer"
case $answer in
"already mounted: "*) echo "is mounted: ${answer#already mounted: }" ;;
*) echo "$answer" ;;
esac
