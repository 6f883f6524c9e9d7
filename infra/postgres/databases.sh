#!/bin/sh
# Run once by the postgres image, on an empty volume: one role and one database per server, each closed to the other.
# Passwords go in over standard input: a command line can be read by others.
set -eu
for name in prefect mlflow; do
    psql -v ON_ERROR_STOP=1 -q --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
\set password \`cat ${SECRETS:-/run/secrets}/${name}_database_password\`
CREATE ROLE $name LOGIN PASSWORD :'password';
CREATE DATABASE $name OWNER $name;
REVOKE ALL ON DATABASE $name FROM PUBLIC;
SQL
done
