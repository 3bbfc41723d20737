# shellcheck shell=bash
# Azurite: Azure Blob Storage in Node.js, with the account and the key that its documentation names.

azure_version=3.37.0
azure_account=devstoreaccount1
azure_key='Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=='
azure_container=evt-tests

azure_install() {
    needs curl curl
    needs openssl openssl
    [[ -d $cache/azurite-$azure_version ]] || command -v npm >/dev/null || fail 69 "npm is missing: https://nodejs.org"
    once "azurite-$azure_version" azure_fetch
}

azure_fetch() { timeout 900 npm install --silent --no-audit --no-fund --prefix "$1" "azurite@$azure_version" >/dev/null; }

azure_run() {
    mkdir -p data
    exec setsid node "$cache/azurite-$azure_version/node_modules/.bin/azurite-blob" --silent --skipApiVersionCheck \
        --disableTelemetry --location "$PWD/data" --blobHost 127.0.0.1 --blobPort "$2"
}

# It is ready once it has made the container, or has it already.
azure_ready() {
    local at text key signature status
    at=$(date -u '+%a, %d %b %Y %H:%M:%S GMT')
    text=$(printf 'PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:%s\nx-ms-version:2021-08-06\n/%s/%s/%s\nrestype:container' \
        "$at" "$azure_account" "$azure_account" "$azure_container")
    key=$(base64 -d <<<"$azure_key" | od -An -tx1 | tr -d ' \n')
    signature=$(printf %s "$text" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
    status=$(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' --request PUT \
        --header "x-ms-date: $at" --header 'x-ms-version: 2021-08-06' --header 'content-length: 0' \
        --header "authorization: SharedKey $azure_account:$signature" \
        "http://127.0.0.1:$2/$azure_account/$azure_container?restype=container")
    [[ $status == 201 || $status == 409 ]]
}

azure_environment() {
    echo "EVT_AZURE az://$azure_container"
    echo "EVT_AZURE_ENDPOINT http://127.0.0.1:$2/$azure_account"
    echo "EVT_AZURE_ACCOUNT $azure_account"
    echo "EVT_AZURE_KEY $azure_key"
}
