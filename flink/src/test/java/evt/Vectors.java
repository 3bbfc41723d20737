package evt;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The vectors that the tests of evt-core write. */
final class Vectors {
    private Vectors() {}

    static List<JsonNode> read(String name) throws IOException {
        ObjectMapper json = new ObjectMapper();
        List<JsonNode> vectors = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of("..", "testdata", "flink", name))) {
            vectors.add(json.readTree(line));
        }
        return vectors;
    }

    /** Returns the double with these bits, in hexadecimal; null for null. */
    static Double number(JsonNode bits) {
        return bits.isNull() ? null : Double.longBitsToDouble(Long.parseUnsignedLong(bits.textValue().substring(2), 16));
    }
}
