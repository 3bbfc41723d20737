package evt;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Reads events that evt wrote in Avro: a record evt.event behind the byte 0 and the id of its schema in a registry with
 * Confluent's interface. It becomes the JSON that evt writes.
 */
final class Avro {
    private static final Duration TIMEOUT = Duration.ofSeconds(30);
    private static final int HEADER = 5;
    private static final Map<String, Schema> SCHEMAS = new ConcurrentHashMap<>();

    private Avro() {}

    /** One field; what its type is apart from null. */
    private record Field(String name, boolean isNullable, Type type) {}

    private enum Type {
        TEXT,
        NUMBER,
        INSTANT
    }

    /** A schema, or why it is none of evt's events. */
    private record Schema(List<Field> fields, String fault) {}

    /** Why a record is no event. */
    static final class Fault extends Exception {
        private static final long serialVersionUID = 1;

        /** The type of its dead letter. */
        final String type;

        Fault(String type, String message) {
            super(message);
            this.type = type;
        }
    }

    /** Returns the JSON of a record. */
    static byte[] json(byte[] record, String registry) throws Fault {
        if (record == null || record.length < HEADER || record[0] != 0) {
            throw new Fault("ParseError", "no id of a schema, which is the byte 0 and four more");
        }
        int id = ByteBuffer.wrap(record, 1, 4).getInt();
        Schema schema = SCHEMAS.computeIfAbsent(registry + ' ' + id, key -> fetch(registry, id));
        if (schema.fault != null) {
            throw new Fault("UnknownSchemaError", "schema " + id + ": " + schema.fault);
        }
        ByteBuffer in = ByteBuffer.wrap(record, HEADER, record.length - HEADER).order(ByteOrder.LITTLE_ENDIAN);
        StringBuilder json = new StringBuilder("{");
        try {
            for (Field field : schema.fields) {
                write(json, field, in);
            }
        } catch (BufferUnderflowException | IllegalArgumentException end) {
            throw new Fault("ParseError", "the record ends within a field");
        }
        if (in.hasRemaining()) {
            throw new Fault("ParseError", "there are bytes behind the record");
        }
        return json.append('}').toString().getBytes(StandardCharsets.UTF_8);
    }

    private static void write(StringBuilder json, Field field, ByteBuffer in) {
        if (field.isNullable && number(in) == 0) {
            return;
        }
        json.append(json.length() == 1 ? "" : ",");
        Json.write(json, field.name);
        json.append(':');
        if (field.type == Type.NUMBER) {
            json.append(number(in));
        } else if (field.type == Type.INSTANT) {
            Json.write(json, Instants.format(number(in)));
        } else {
            byte[] text = new byte[Math.toIntExact(Math.min(number(in), Integer.MAX_VALUE))];
            in.get(text);
            String value = new String(text, StandardCharsets.UTF_8);
            if (field.name.equals("properties")) {
                json.append(value);
            } else {
                Json.write(json, value);
            }
        }
    }

    /** Reads a number: seven bits a byte, the lowest first, zigzag. */
    private static long number(ByteBuffer in) {
        long bits = 0;
        for (int shift = 0; shift < Long.SIZE; shift += 7) {
            byte next = in.get();
            bits |= (long) (next & 0x7f) << shift;
            if (next >= 0) {
                return bits >>> 1 ^ -(bits & 1);
            }
        }
        throw new IllegalArgumentException("a number of more than ten bytes");
    }

    /** Asks the registry for a schema. A registry that is away ends the task, and Flink starts it again. */
    private static Schema fetch(String registry, int id) {
        URI uri = URI.create(registry.replaceAll("/+$", "") + "/schemas/ids/" + id);
        HttpRequest request = HttpRequest.newBuilder(uri).timeout(TIMEOUT).build();
        HttpResponse<byte[]> answer;
        try {
            HttpClient client = HttpClient.newBuilder().connectTimeout(TIMEOUT).build();
            answer = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
        } catch (IOException away) {
            throw new IllegalStateException(uri + ": " + away, away);
        } catch (InterruptedException stopped) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(uri + ": interrupted", stopped);
        }
        if (answer.statusCode() == 404) {
            return new Schema(List.of(), "the registry does not know it");
        } else if (answer.statusCode() != 200) {
            throw new IllegalStateException(uri + ": status " + answer.statusCode());
        }
        byte[] body = answer.body();
        if (Json.end(body, Json.space(body, 0)) < 0) {
            throw new IllegalStateException(uri + ": the answer is no JSON");
        }
        String schema = text(body, Json.space(body, 0), "schema");
        return schema == null ? new Schema(List.of(), "it has no text") : schema(schema.getBytes(StandardCharsets.UTF_8));
    }

    private static Schema schema(byte[] json) {
        int start = Json.space(json, 0);
        if (Json.end(json, start) < 0 || json[start] != '{' || text(json, start, "fields") == null) {
            return new Schema(List.of(), "no record");
        }
        List<Field> fields = new ArrayList<>();
        for (int at = 1; ; at++) {
            String field = text(json, start, "fields[" + at + "]");
            if (field == null) {
                return new Schema(fields, fields.isEmpty() ? "a record without fields" : null);
            }
            byte[] of = field.getBytes(StandardCharsets.UTF_8);
            String name = text(of, 0, "name");
            boolean isNullable = "null".equals(text(of, 0, "type[1]"));
            Type type = type(of, isNullable ? "type[2]" : "type");
            if (type == null || isNullable && text(of, 0, "type[3]") != null) {
                return new Schema(List.of(), name + " has another type than in evt's events");
            }
            fields.add(new Field(name, isNullable, type));
        }
    }

    /** Returns the type at a path of a field; null if evt's events have no such type. */
    private static Type type(byte[] field, String path) {
        String name = text(field, 0, path + ".type");
        String logical = text(field, 0, path + ".logicalType");
        name = name == null ? text(field, 0, path) : name;
        if ("string".equals(name)) {
            return Type.TEXT;
        } else if (!"long".equals(name)) {
            return null;
        }
        return logical == null ? Type.NUMBER : logical.equals("timestamp-micros") ? Type.INSTANT : null;
    }

    private static String text(byte[] json, int start, String path) {
        var found = Json.string(json, start, Json.path(path));
        return found == null ? null : found.toString();
    }
}
