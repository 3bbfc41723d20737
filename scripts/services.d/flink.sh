# shellcheck shell=bash
# Apache Flink: a JobManager (flink.0) and two TaskManagers (flink.1, flink.2) with state in RocksDB. Checkpoints and savepoints are in
# the directory of the JobManager.

flink_version=${EVT_FLINK_VERSION:-2.2.1}
flink_kafka_version=5.0.0-2.2
flink_jdbc_version=4.0.0-2.0
flink_home=$cache/flink-$flink_version-jdbc

flink_install() {
    [[ -d $flink_home ]] || needs mvn maven
    flink_java >/dev/null
    once "flink-$flink_version-jdbc" flink_fetch
}

flink_java() {
    local java
    java=$(java_of 17)
    [[ -n $java ]] || fail 69 "flink needs Java 17 or later (Debian: apt-get install openjdk-17-jre-headless)"
    echo "$java"
}

# flink-dist, the planner and the client are only on PyPI; the gateway, which the client needs, and the parts for Kafka and PostgreSQL
# only on Maven Central.
flink_fetch() {
    local artifact
    "$("$here/python")" -m pip install --quiet --no-deps --no-compile --target "$1/pip" "apache-flink-libraries==$flink_version" &&
        mkdir "$1/lib" && mv "$1"/pip/pyflink/lib/*.jar "$1"/pip/pyflink/opt/flink-{sql-client,python}-*.jar "$1/lib" && rm -rf "$1/pip" &&
        for artifact in "org.apache.flink:flink-sql-gateway:$flink_version" \
            "org.apache.flink:flink-sql-connector-kafka:$flink_kafka_version" \
            "org.apache.flink:flink-connector-jdbc-core:$flink_jdbc_version" \
            "org.apache.flink:flink-connector-jdbc-postgres:$flink_jdbc_version" org.postgresql:postgresql:42.7.4; do
            maven dependency:copy -Dartifact="$artifact" -DoutputDirectory="$1/lib" || return
        done
}

# Sets `flink` to the command that runs a class of Flink with the configuration in a directory. Takes more options for Java after it.
flink_command() {
    local conf=$1 module
    shift
    cat >"$conf/log4j2.xml" <<'END'
<Configuration status="WARN"><Appenders><Console name="C" target="SYSTEM_ERR"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="C"/></Root></Loggers></Configuration>
END
    export FLINK_CONF_DIR=$conf FLINK_LIB_DIR=$flink_home/lib
    # Tests last seconds. With the second compiler (C2) they take more CPU time, and long jobs a third less.
    local options=(-XX:TieredStopAtLevel=1)
    [[ -z ${EVT_FLINK_JAVA:-} ]] || read -ra options <<<"$EVT_FLINK_JAVA"
    flink=("$(flink_java)" -XX:+UseSerialGC "${options[@]}" "-Dlog4j2.configurationFile=$conf/log4j2.xml" "-Djava.io.tmpdir=$conf")
    for module in java.lang java.net java.io java.nio sun.nio.ch java.lang.reflect java.text java.time java.util java.util.concurrent \
        java.util.concurrent.atomic java.util.concurrent.locks; do
        flink+=("--add-opens=java.base/$module=ALL-UNNAMED")
    done
    flink+=("$@" -cp "$flink_home/lib/*")
}

flink_run() {
    local node=$1 port=$2 data flink
    # shellcheck disable=SC2154 # scripts/services has it
    data=$state_dir/flink.0/data
    mkdir -p "$data" tmp
    cat >config.yaml <<END
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: $(second_port_for flink.0)
jobmanager.bind-host: 127.0.0.1
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.data.port: $port
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: $(port_for flink.0)
io.tmp.dirs: $PWD/tmp
taskmanager.numberOfTaskSlots: 2
taskmanager.memory.process.size: 1100m
jobmanager.memory.process.size: 768m
heartbeat.interval: 1 s
heartbeat.timeout: 60 s
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 100
restart-strategy.fixed-delay.delay: 1 s
state.backend.type: rocksdb
execution.checkpointing.interval: 1 s
execution.checkpointing.dir: file://$data/checkpoints
execution.checkpointing.savepoint-dir: file://$data/savepoints
END
    if [[ $node == flink.0 ]]; then
        flink_command "$PWD" -Xmx384m
        exec setsid "${flink[@]}" org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint --configDir "$PWD" --executionMode cluster
    fi
    # The sizes that the scripts of Flink compute.
    flink_command "$PWD" -Xmx512m -XX:MaxDirectMemorySize=288m
    exec setsid "${flink[@]}" org.apache.flink.runtime.taskexecutor.TaskManagerRunner --configDir "$PWD" \
        -D taskmanager.cpu.cores=2.0 -D taskmanager.memory.process.size= \
        -D taskmanager.memory.framework.heap.size=128mb -D taskmanager.memory.task.heap.size=384mb \
        -D taskmanager.memory.framework.off-heap.size=128mb -D taskmanager.memory.task.off-heap.size=96mb \
        -D taskmanager.memory.managed.size=192mb -D taskmanager.memory.network.min=64mb -D taskmanager.memory.network.max=64mb \
        -D taskmanager.memory.jvm-metaspace.size=256mb -D taskmanager.memory.jvm-overhead.min=64mb -D taskmanager.memory.jvm-overhead.max=64mb
}

# A TaskManager is ready when the JobManager knows those that were started with it.
flink_ready() {
    local node=$1 other expected=0
    # shellcheck disable=SC2154 # set by start
    for other in "${started[@]}"; do
        [[ $other != flink.[12] || $node == flink.0 ]] || expected=$((expected + 1))
    done
    local overview
    overview=$(curl --silent --fail --max-time 5 "http://127.0.0.1:$(port_for flink.0)/overview") || return
    overview=${overview#*\"taskmanagers\":}
    ((${overview%%,*} >= expected))
}

flink_environment() {
    [[ $1 != flink.0 ]] || echo "EVT_FLINK http://127.0.0.1:$2"
}
