# shellcheck shell=bash
# versitygw: an S3 server whose objects are files. Their metadata is beside them, as not every file system has attributes.

s3_version=v1.8.0
s3_access_key=evt-access
s3_secret_key=evt-secret
s3_region=us-east-1

s3_install() {
    needs curl curl
    [[ -d $cache/versitygw-$s3_version ]] || command -v go >/dev/null || fail 69 "go is missing: https://go.dev/doc/install"
    once "versitygw-$s3_version" s3_fetch
}

s3_fetch() {
    GOBIN=$1 timeout 1200 nice go install -trimpath -ldflags='-s -w' "github.com/versity/versitygw/cmd/versitygw@$s3_version"
}

s3_run() {
    mkdir -p data versions users metadata
    export ROOT_ACCESS_KEY=$s3_access_key ROOT_SECRET_KEY=$s3_secret_key
    exec setsid "$cache/versitygw-$s3_version/versitygw" --port "127.0.0.1:$2" --region $s3_region --iam-dir "$PWD/users" \
        --health /health --quiet posix --versioning-dir "$PWD/versions" --sidecar "$PWD/metadata" "$PWD/data"
}

s3_ready() { curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$2/health"; }
s3_environment() {
    echo "EVT_S3 http://127.0.0.1:$2"
    echo "EVT_S3_ACCESS_KEY $s3_access_key"
    echo "EVT_S3_SECRET_KEY $s3_secret_key"
    echo "EVT_S3_REGION $s3_region"
}
