#!/bin/sh
# Make the secrets of compose.yaml in docker/secrets, or in the folder $1, each with a random value of its own.
# A file that is there is left as it is. Only names are printed. The folder is yours alone; the files in it are readable,
# because compose hands them to containers that have other users.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

keep() {  # keep NAME VALUE
    if [ -e "$1" ]; then echo "kept $1"; return; fi
    printf '%s' "$2" > "$1.part"
    chmod 644 "$1.part"
    mv "$1.part" "$1"
    echo "made $1"
}

for name in zenml_database zenml_password zenml_jwt_key zenml_encryption_key \
    mlflow_database mlflow_password mlflow_secret_key s3_secret_key; do
    keep "$name" "$(random)"
done
keep s3_access_key selftrain
# rclone reads a list from this variable; the quotation marks make a pair one item of it.
pair="\"$(cat s3_access_key),$(cat s3_secret_key)\""
keep s3_auth_key "$pair"
case $(cat s3_auth_key) in
    *"$pair"*) ;;
    *)
        echo "s3_auth_key does not hold s3_access_key and s3_secret_key, so the store would refuse them:" \
            "remove $(pwd)/s3_auth_key and repeat" >&2
        exit 2
        ;;
esac
