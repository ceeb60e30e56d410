#!/bin/sh
# Makes the certificates of this folder anew, valid for a hundred years. It needs OpenSSL 3.
set -eu
cd "$(dirname "$0")"

days=36500

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" \
    -subj "/CN=checkgate examples: authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout authority.key -out authority.pem

# issue NAME SUBJECT-ALT-NAME EXTENDED-KEY-USAGE
issue() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" \
        -CA authority.pem -CAkey authority.key -subj "/CN=checkgate examples: $1" \
        -addext "basicConstraints=critical,CA:FALSE" -addext "keyUsage=critical,digitalSignature" \
        -addext "subjectAltName=$2" -addext "extendedKeyUsage=$3" \
        -keyout "$1.key" -out "$1.pem"
}

issue server "DNS:localhost,IP:127.0.0.1,IP:::1" serverAuth
issue other "DNS:other.example" serverAuth
issue client "DNS:client.example" clientAuth
