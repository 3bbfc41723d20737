# shellcheck shell=bash
# A catalog of Iceberg with the REST API: the one that Iceberg tests itself with, over SQLite. Its tables are in the bucket
# evt-catalog of s3 if that is started with it (before it in the list), else in its directory.

catalog_version=1.11.0
jetty_version=12.1.5
catalog_bucket=evt-catalog

catalog_install() {
    needs curl curl
    [[ -d $cache/catalog-$catalog_version ]] || needs mvn maven
    kafka_java >/dev/null
    once "catalog-$catalog_version" catalog_fetch
}

catalog_fetch() {
    local dir=$1 dependencies='' dependency group artifact version classifier
    for dependency in org.apache.iceberg:iceberg-core:$catalog_version: org.apache.iceberg:iceberg-core:$catalog_version:tests \
        org.apache.iceberg:iceberg-open-api:$catalog_version:test-fixtures org.apache.iceberg:iceberg-aws:$catalog_version: \
        org.apache.iceberg:iceberg-aws-bundle:$catalog_version: org.eclipse.jetty.ee10:jetty-ee10-servlet:$jetty_version: \
        org.eclipse.jetty.compression:jetty-compression-server:$jetty_version: \
        org.eclipse.jetty.compression:jetty-compression-gzip:$jetty_version: org.xerial:sqlite-jdbc:3.50.3.0: \
        org.apache.hadoop:hadoop-client-api:3.4.2: org.apache.hadoop:hadoop-client-runtime:3.4.2: org.slf4j:slf4j-simple:2.0.17:; do
        IFS=: read -r group artifact version classifier <<<"$dependency"
        dependencies+="<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version>"
        dependencies+="${classifier:+<classifier>$classifier</classifier>}</dependency>"
    done
    cat >"$dir/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>evt</groupId><artifactId>catalog</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>$dependencies</dependencies>
</project>
END
    maven --file "$dir/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$dir/lib" || return
    # Two of them would log, and the other one needs more.
    rm -f "$dir"/lib/slf4j-reload4j*.jar
    cat >"$dir/Catalog.java" <<'END'
import java.net.InetSocketAddress;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;

/** Serves a catalog on loopback: the port, then its properties. */
public class Catalog {
    public static void main(String[] arguments) throws Exception {
        Map<String, String> properties = new HashMap<>();
        for (int at = 1; at < arguments.length; at++) {
            String[] pair = arguments[at].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        var catalog = CatalogUtil.buildIcebergCatalog("evt", properties, new Configuration());
        ServletContextHandler handler = new ServletContextHandler();
        handler.addServlet(new ServletHolder(new RESTCatalogServlet(new RESTCatalogAdapter(catalog))), "/*");
        Server server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        server.setHandler(handler);
        server.start();
        server.join();
    }
}
END
    "$(dirname "$(readlink -f "$(kafka_java)")")/javac" -cp "$dir/lib/*" -d "$dir/classes" "$dir/Catalog.java"
}

catalog_run() {
    local dir=$cache/catalog-$catalog_version properties
    mkdir -p warehouse
    properties=(catalog-impl=org.apache.iceberg.jdbc.JdbcCatalog jdbc.schema-version=V1 "uri=jdbc:sqlite:$PWD/catalog.db" jdbc.user=evt
        jdbc.password=evt)
    if [[ -d $state_dir/s3 ]]; then
        mkdir -p "$state_dir/s3/data/$catalog_bucket"
        properties+=("warehouse=s3://$catalog_bucket/warehouse" io-impl=org.apache.iceberg.aws.s3.S3FileIO
            "s3.endpoint=http://127.0.0.1:$(port_for s3)" "s3.access-key-id=$s3_access_key" "s3.secret-access-key=$s3_secret_key"
            s3.path-style-access=true "client.region=$s3_region")
    else
        properties+=("warehouse=file://$PWD/warehouse")
    fi
    export AWS_REGION=$s3_region
    exec setsid "$(kafka_java)" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -cp "$dir/classes:$dir/lib/*" Catalog "$2" "${properties[@]}"
}

catalog_ready() { curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$2/v1/config"; }
catalog_environment() { echo "EVT_CATALOG http://127.0.0.1:$2"; }
