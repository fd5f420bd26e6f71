#!/bin/sh
# Run a command with secrets in its environment: with-secrets.sh NAME=SECRET ... -- COMMAND
# NAME gets the text of the file SECRET in /run/secrets, or in the folder that SECRETS names. A missing or empty file ends this.
set -eu
folder=${SECRETS:-/run/secrets}
while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
    file=$folder/${1#*=}
    if [ ! -s "$file" ]; then
        echo "the secret $file is missing or empty; docker/secrets.sh makes it" >&2
        exit 2
    fi
    export "${1%%=*}=$(cat "$file")"
    shift
done
if [ "$#" -lt 2 ]; then
    echo "usage: with-secrets.sh NAME=SECRET ... -- COMMAND" >&2
    exit 2
fi
shift
exec "$@"
