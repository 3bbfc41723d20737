# shellcheck shell=bash
# Apache Kafka in KRaft mode; each node is broker and controller. kafka is one node, kafka3 a cluster of three.

# Not 4.3.0 or 4.3.1: these may skip the markers of a transaction while a broker starts (KAFKA-20734; docs/decisions/290-hanging-transactions.md).
kafka_version=4.2.1
log4j_version=2.25.1
kafka_home=$cache/kafka-$kafka_version
kafka_classes=$cache/kafka-$kafka_version-classes/archive

kafka_install() {
    needs kcat kcat
    [[ -d $kafka_home ]] || needs mvn maven
    kafka_java >/dev/null
    once "kafka-$kafka_version" kafka_fetch
    once kafka-keys kafka_certify
    once "kafka-$kafka_version-classes" kafka_archive
}

# A certificate for loopback, which signs itself: clients take it for the authority.
kafka_certify() {
    local dir=$1 keytool
    keytool=$(dirname "$(readlink -f "$(kafka_java)")")/keytool
    "$keytool" -genkeypair -keystore "$dir/keys.p12" -storetype PKCS12 -storepass loopback -alias broker -keyalg EC \
        -dname CN=127.0.0.1 -ext san=ip:127.0.0.1 -validity 3650
    "$keytool" -exportcert -rfc -keystore "$dir/keys.p12" -storepass loopback -alias broker -file "$dir/ca.pem"
}

# Prints the Java to run it with.
kafka_java() {
    local java
    java=$(java_of 17)
    if [[ -z $java ]]; then
        needs java default-jre-headless
        java=$(java_of 17)
    fi
    [[ -n $java ]] || fail 69 "kafka needs Java 17 or later (Debian: apt-get install openjdk-17-jre-headless)"
    echo "$java"
}

# Kafka's own pom names no log4j, without which it logs nothing.
kafka_fetch() {
    local dir=$1 dependencies='' dependency
    for dependency in org.apache.kafka:kafka_2.13:$kafka_version org.apache.kafka:kafka-tools:$kafka_version \
        org.apache.logging.log4j:log4j-slf4j-impl:$log4j_version org.apache.logging.log4j:log4j-core:$log4j_version; do
        IFS=: read -r group artifact version <<<"$dependency"
        dependencies+="<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    cat >"$dir/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>evt</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>$dependencies</dependencies>
</project>
END
    cat >"$dir/log4j2.xml" <<'END'
<Configuration status="WARN">
<Appenders><Console name="console"><PatternLayout pattern="%d %p %c{1} %m%n"/></Console></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
END
    maven --file "$dir/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/lib"
}

# Keeps the classes that a first run has loaded, with which later ones start in two thirds of the time. A Java that the archive
# does not fit ignores it.
kafka_archive() {
    # shellcheck disable=SC2034 # read by port_for: a port that somebody chose is not for this run
    local dir=$1 state_dir=$1/first EVT_KAFKA_PORT= port i
    mkdir -p "$state_dir/kafka"
    choose_ports >"$state_dir/ports"
    port=$(port_for kafka)
    (cd "$state_dir/kafka" && kafka_run kafka "$port" -XX:ArchiveClassesAtExit="$dir/archive") &
    for ((i = 0; i < 600; i++)); do
        ! kafka_knows "$port" 1 || break
        sleep 0.1
    done
    kill $!
    wait $! || true
    rm -rf "$state_dir"
    [[ -s $dir/archive ]]
}

# Takes more options for Java after the port.
kafka_run() {
    local node=$1 port=$2 java
    shift 2
    java=$(kafka_java)
    kafka_properties "$node" "$port" >server.properties
    # Tests start brokers that run for seconds. With the second compiler (C2) they take a fifth more CPU time.
    local server=("$java" -Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1
        "-Dlog4j2.configurationFile=$kafka_home/log4j2.xml" -cp "$kafka_home/lib/*")
    [[ ! -e $kafka_classes ]] || server+=(-XX:SharedArchiveFile="$kafka_classes")
    if [[ ! -e data/meta.properties ]]; then
        (umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >password)
        "${server[@]}" kafka.tools.StorageTool format \
            --cluster-id "$(kafka_cluster "$node")" --config server.properties \
            --add-scram "SCRAM-SHA-512=[name=evt,password=$(<password)]"
    fi
    exec setsid "${server[@]}" "$@" kafka.Kafka server.properties
}

# 16 bytes in base64, the same for all nodes of a cluster.
kafka_cluster() { printf 'evt-%-12.12s' "${1%%.*}" | tr ' ' - | base64 | tr -d =; }

# Short sessions make a lost broker known in seconds; a single node cannot hold the replicas that Kafka's own topics ask for.
# Records of tests have timestamps of any age: with a retention brokers delete them, at first 30 s after their start.
kafka_properties() {
    local node=$1 port=$2 replicas=1 insync=1 id=1 voters i secure
    voters=1@127.0.0.1:$(second_port_for "$node")
    secure=,SECURE://127.0.0.1:$(secure_port)
    if [[ $node == kafka3.* ]]; then
        secure=
        replicas=3 insync=2 id=${node#kafka3.} voters=
        for i in 1 2 3; do voters+=${voters:+,}$i@127.0.0.1:$(second_port_for "kafka3.$i"); done
    fi
    cat <<END
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$(second_port_for "$node")$secure
advertised.listeners=PLAINTEXT://127.0.0.1:$port$secure
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location=$cache/kafka-keys/keys.p12
ssl.keystore.password=loopback
inter.broker.listener.name=PLAINTEXT
log.dirs=$state_dir/$node/data
log.retention.ms=-1
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=$replicas
min.insync.replicas=$insync
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$insync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$insync
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.threads=1
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
END
}

# It and all of its cluster that were started with it are known to it.
kafka_ready() {
    local node=$1 port=$2 other expected=0
    # shellcheck disable=SC2154 # set by start
    for other in "${started[@]}"; do
        [[ ${other%%.*} != "${node%%.*}" ]] || expected=$((expected + 1))
    done
    kafka_knows "$port" "$expected"
}

# Whether the broker on that port lists at least so many.
kafka_knows() {
    local found
    listening "$1" || return
    found=$(timeout 5 kcat -b "127.0.0.1:$1" -L -m 2 | grep -c '^  broker ')
    ((found >= $2))
}

kafka_environment() {
    echo "EVT_KAFKA 127.0.0.1:$2"
    echo "EVT_KAFKA_SECURE 127.0.0.1:$(secure_port)"
    echo "EVT_KAFKA_CA $cache/kafka-keys/ca.pem"
    echo "EVT_KAFKA_PASSWORD $(<"$state_dir/$1/password")"
}
