#!/bin/sh
# Make the four files of secrets beside this script (or in the folder $1), with passwords and keys of their own.
# A file that is there is left as it is. Nothing is printed but the names of the files.
set -eu
umask 077
folder=$(cd "${1:-$(dirname "$0")}" && pwd)

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

fill() {  # fill FILE KEY=VALUE...
    file=$1; shift
    if [ -e "$folder/$file" ]; then echo "kept $file"; return; fi
    printf '%s\n' "$@" > "$folder/$file.part"
    mv "$folder/$file.part" "$folder/$file"
    echo "made $file"
}

value() { if [ -e "$folder/$1" ]; then sed -n "s/^$2=//p" "$folder/$1"; fi; }  # value FILE KEY

# The pods log in to MLflow as its administrator, so two files hold one name and one password: the file that is there says them.
# If pods are a user of their own there, the administrator's password is another one.
user=$(value mlflow-server.env MLFLOW_AUTH_ADMIN_USERNAME)
password=$(value mlflow-server.env MLFLOW_AUTH_ADMIN_PASSWORD)
if [ -z "$password" ] && [ "$(value selftrain-mlflow.env MLFLOW_TRACKING_USERNAME)" = admin ]; then
    password=$(value selftrain-mlflow.env MLFLOW_TRACKING_PASSWORD)
fi
user=${user:-admin} password=${password:-$(random)}
fill selftrain-s3.env "AWS_ACCESS_KEY_ID=selftrain" "AWS_SECRET_ACCESS_KEY=$(random)"
fill mlflow-server.env "MLFLOW_AUTH_ADMIN_USERNAME=$user" "MLFLOW_AUTH_ADMIN_PASSWORD=$password" \
    "MLFLOW_FLASK_SERVER_SECRET_KEY=$(random)"
fill selftrain-mlflow.env "MLFLOW_TRACKING_USERNAME=$user" "MLFLOW_TRACKING_PASSWORD=$password"
fill zenml-server.env "ZENML_DEFAULT_USER_NAME=admin" "ZENML_DEFAULT_USER_PASSWORD=$(random)" \
    "ZENML_SERVER_JWT_SECRET_KEY=$(random)" "ZENML_SECRETS_STORE_ENCRYPTION_KEY=$(random)"
