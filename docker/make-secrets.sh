#!/bin/sh
# Makes what docker-compose.yml mounts as secrets, once: passwords, keys, a self-signed certificate.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
cd secrets
[ -s secret_key ] || openssl rand -hex 32 > secret_key
[ -s grafana_password ] || openssl rand -hex 16 > grafana_password
[ -s postgres_password ] || openssl rand -hex 24 > postgres_password
[ -s database_url ] ||
    printf 'postgresql://kingpost:%s@postgres:5432/kingpost' "$(cat postgres_password)" > database_url
[ -s tls.crt ] || openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout tls.key -out tls.crt 2>/dev/null
# Read in the containers by users of their own.
chmod 755 .
chmod 644 secret_key database_url postgres_password grafana_password tls.crt tls.key
