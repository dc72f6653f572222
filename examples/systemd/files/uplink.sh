#!/bin/sh
# Stands for a service: reads a file at its start, and again when it is told to (SIGHUP).
#
#   uplink.sh FILE
set -eu

read_secret() {
    echo "Read $(wc -c <"$1") bytes."
}

nap=
trap 'read_secret "$1"' HUP
trap 'kill $nap 2>/dev/null || :; exit 0' TERM
read_secret "$1"
# Where it is started by hand, nobody is to be told.
systemd-notify --ready || :
while :; do
    sleep infinity &
    nap=$!
    wait "$nap" || kill "$nap" 2>/dev/null || :
done
