package evt;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.UUID;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.functions.ScalarFunction;
import org.apache.flink.types.Row;

/** The key of a metric row. */
public final class MetricFunctions {
    private MetricFunctions() {}

    /** Names and values of dimensions, one after another, as a JSON object in the form of RFC 8785. */
    public static final class Dimensions extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(String... namesAndValues) {
            Map<String, String> dimensions = new TreeMap<>();
            for (int at = 0; at < namesAndValues.length; at += 2) {
                dimensions.put(namesAndValues[at], namesAndValues[at + 1]);
            }
            StringBuilder json = new StringBuilder("{");
            dimensions.forEach(
                    (name, value) -> {
                        json.append(json.length() == 1 ? "" : ",");
                        Json.write(json, name);
                        json.append(':');
                        if (value == null) {
                            json.append("null");
                        } else {
                            Json.write(json, value);
                        }
                    });
            return json.append('}').toString();
        }
    }

    /** The id of a metric row: the UUID (version 5) of its name, its window (µs) and its dimensions. */
    public static final class Id extends ScalarFunction {
        private static final long serialVersionUID = 1;

        private static final byte[] NAMESPACE =
                ByteBuffer.allocate(16).putLong(0x09c4c0d27f8e58afL).putLong(0x96a542df8aab1690L).array();

        private transient MessageDigest sha1;

        public String eval(String name, Long start, Long end, String dimensions) {
            try {
                sha1 = sha1 == null ? MessageDigest.getInstance("SHA-1") : sha1;
            } catch (NoSuchAlgorithmException e) {
                throw new IllegalStateException(e);
            }
            sha1.update(NAMESPACE);
            String key = name + '\0' + start + '\0' + end + '\0' + dimensions;
            ByteBuffer hash = ByteBuffer.wrap(sha1.digest(key.getBytes(StandardCharsets.UTF_8)));
            long high = hash.getLong() & ~0xf000L | 0x5000L;
            long low = hash.getLong() & ~(3L << 62) | 1L << 63;
            return new UUID(high, low).toString();
        }
    }

    /** The ends of the first and the last window (µs) that contain an instant; NULL if none does. */
    public static final class Ends extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public @DataTypeHint("ROW<first_end BIGINT, last_end BIGINT>") Row eval(
                Long time, String unit, String zone, Long size, Long slide, Long align) {
            List<long[]> windows = Windows.of(Layout.of(unit, zone, size, slide, align), time);
            return windows.isEmpty() ? null : Row.of(windows.get(0)[1], windows.get(windows.size() - 1)[1]);
        }
    }

    /** The names that are not NULL; NULL if all are. */
    public static final class Names extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String[] eval(String... names) {
            String[] present = Arrays.stream(names).filter(Objects::nonNull).toArray(String[]::new);
            return present.length == 0 ? null : present;
        }
    }
}
