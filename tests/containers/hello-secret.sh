#!/bin/sh
# Says hello to whom its secret names. Written as a service of Open Horizon is: it reads the file when it
# starts, asks its node for updates with what HZN_ESS_* says, fetches what has changed, and acknowledges it.
set -u

name=$1
api=https://localhost/api/v1/secrets
id=$(jq -r .id "$HZN_ESS_AUTH")
token=$(jq -r .token "$HZN_ESS_AUTH")

# Sets `body` and `code`. The code is 000 while nobody listens.
ask() {
    told=$(curl --silent --write-out '\n%{http_code}' --user "$id:$token" --cacert "$HZN_ESS_CERT" \
        --unix-socket "$HZN_ESS_API_ADDRESS" --request "$@")
    code=$(printf '%s' "$told" | tail -n 1)
    body=$(printf '%s' "$told" | head -n -1)
}

hello() {
    echo "$HZN_DEVICE_ID says: Hello $1!"
}

fail() {
    echo "Error: $1: $code"
    exit 1
}

hello "$(jq -r .value "/open-horizon-secrets/$name") (file)"
while :; do
    ask GET "$api"
    case $code in
    200)
        for changed in $(printf '%s' "$body" | jq -r '.[]'); do
            if [ "$changed" = "$name" ]; then
                ask GET "$api/$name"
                [ "$code" = 200 ] || fail "GET $name"
                hello "$(printf '%s' "$body" | jq -r '.key + " " + .value')"
            fi
            ask POST "$api/$changed?received=true"
            [ "$code" = 201 ] || fail "POST $changed"
        done
        ;;
    404 | 000) ;;
    *) fail "GET" ;;
    esac
    sleep 0.2
done
