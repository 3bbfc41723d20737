package evt;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.functions.ScalarFunction;

/** Functions that read the records of a topic. */
public final class EventFunctions {
    private EventFunctions() {}

    /**
     * The event of a record that evt wrote as JSON or, if there is a registry, as Avro, whose event time is that of a field or, without a name,
     * {@code server_timestamp}, else {@code event_time}, else Kafka's timestamp; with the texts of the properties at some
     * paths: the content of a string, else the JSON text as received; NULL if it is absent or null.
     * Instants are microseconds since 1970; {@code event_ts} is the event time for Flink, in milliseconds. A record
     * that is no such event has a fault and its type; its event time is the earliest one, so that it advances nothing. The
     * event has its record and the place of it, too, so that it is all that a job needs.
     */
    @FunctionHint(
            output =
                    @DataTypeHint(
                            value =
                                    "ROW<event_id STRING, source STRING, event_type STRING, user_id STRING,"
                                            + " client_timestamp BIGINT, server_timestamp BIGINT, event_time BIGINT,"
                                            + " event_ts TIMESTAMP_LTZ(3), error_type STRING, fault STRING,"
                                            + " properties ARRAY<STRING>, kafka_partition INT, `offset` BIGINT,"
                                            + " `value` BYTES>",
                            bridgedTo = RowData.class))
    public static final class Read extends ScalarFunction {
        private static final long serialVersionUID = 1;
        private static final String[] COLUMNS = {
            "event_id", "source", "event_type", "user_id", "client_timestamp", "server_timestamp"
        };
        private static final int CLIENT_TIMESTAMP = 4;
        private static final int SERVER_TIMESTAMP = 5;
        private static final int EVENT_TIME = 6;
        private static final int EVENT_TS = 7;
        private static final int ERROR_TYPE = 8;
        private static final int FAULT = 9;
        private static final int PROPERTIES = 10;
        private static final int PARTITION = 11;
        private static final int OFFSET = 12;
        private static final int VALUE = 13;
        private static final int FIELDS = 14;
        private static final byte[] TIME = "event_time".getBytes(StandardCharsets.UTF_8);
        private static final byte[] OBJECT = "properties".getBytes(StandardCharsets.UTF_8);
        private static final TimestampData EARLIEST = TimestampData.fromEpochMillis(-62_135_596_800_000L);

        /**
         * The record that a thread has read last. The operators of a task call the function for one record one after
         * another, each with a function of its own.
         */
        private static final ThreadLocal<Last> LAST = ThreadLocal.withInitial(Last::new);

        private transient Wanted wanted;

        private static final class Last {
            private byte[] record;
            private Wanted wanted;
            private RowData event;
        }

        /** What is read of records. */
        private record Wanted(String time, List<String> paths, List<List<Json.Step>> steps) {
            static Wanted of(String time, String... paths) {
                return new Wanted(time, List.of(paths), Arrays.stream(paths).map(Json::path).toList());
            }
        }

        /** Reads a record; all calls of a function have the same time and paths. */
        public RowData eval(
                byte[] record,
                Integer partition,
                Long offset,
                @DataTypeHint(value = "TIMESTAMP_LTZ(3)", bridgedTo = TimestampData.class) TimestampData arrival,
                String registry,
                String time,
                String... paths) {
            wanted = wanted == null ? Wanted.of(time, paths) : wanted;
            Last last = LAST.get();
            if (record == null || record != last.record || wanted != last.wanted && !wanted.equals(last.wanted)) {
                GenericRowData event = read(record, registry, arrival.getMillisecond() * 1000, wanted);
                event.setField(PARTITION, partition);
                event.setField(OFFSET, offset);
                event.setField(VALUE, record);
                last.event = event;
                last.record = record;
                last.wanted = wanted;
            }
            return last.event;
        }

        /** Reads a record in Avro or, without a registry, in JSON; it arrived at an instant, or null. */
        private static GenericRowData read(byte[] record, String registry, Long arrival, Wanted wanted) {
            try {
                return read(registry.isEmpty() ? record : Avro.json(record, registry), arrival, wanted);
            } catch (Avro.Fault fault) {
                return fault(fault.type, fault.getMessage());
            }
        }

        private static GenericRowData read(byte[] json, Long arrival, Wanted wanted) {
            int start = json == null ? 0 : Json.space(json, 0);
            int end = json == null ? -1 : Json.end(json, start);
            if (end < 0 || Json.space(json, end) != json.length) {
                return fault("ParseError", "no JSON");
            } else if (json[start] != '{') {
                return fault("EnvelopeError", "no JSON object");
            }
            GenericRowData row = new GenericRowData(FIELDS);
            row.setField(PROPERTIES, members(json, start, row, wanted.steps));
            for (int column : new int[] {0, 1, 2}) {
                if (row.isNullAt(column)) {
                    return fault("EnvelopeError", COLUMNS[column] + " is missing or no text");
                }
            }
            if (!row.isNullAt(FAULT)) {
                return fault("TimestampError", row.getString(FAULT).toString());
            }
            Long instant = time(json, start, row, arrival, wanted.time);
            if (instant == null) {
                return fault("TimestampError", (wanted.time.isEmpty() ? "event_time" : wanted.time) + " is missing or no instant");
            }
            row.setField(EVENT_TIME, instant);
            row.setField(EVENT_TS, TimestampData.fromEpochMillis(Math.floorDiv(instant, 1000L)));
            return row;
        }

        private static GenericRowData fault(String type, String fault) {
            GenericRowData row = new GenericRowData(FIELDS);
            row.setField(ERROR_TYPE, StringData.fromString(type));
            row.setField(FAULT, StringData.fromString(fault));
            row.setField(EVENT_TS, EARLIEST);
            return row;
        }

        private static Long time(byte[] json, int start, GenericRowData row, Long arrival, String time) {
            if (row.isNullAt(SERVER_TIMESTAMP) && !readsEventTime(json, start, row, time)) {
                row.setField(SERVER_TIMESTAMP, arrival);
            }
            String field = !time.isEmpty() ? time : row.isNullAt(SERVER_TIMESTAMP) ? "event_time" : "server_timestamp";
            for (int column = CLIENT_TIMESTAMP; column < COLUMNS.length; column++) {
                if (COLUMNS[column].equals(field)) {
                    return row.isNullAt(column) ? null : (Long) row.getLong(column);
                }
            }
            StringData text = Json.string(json, start, Json.path(field));
            return text == null ? null : Instants.parse(text.toString());
        }

        /** Whether the event time of a record is that of its member of this name because nothing else was wanted. */
        private static boolean readsEventTime(byte[] json, int start, RowData row, String time) {
            return time.isEmpty()
                    && row.isNullAt(SERVER_TIMESTAMP)
                    && Json.string(json, start, Json.path("event_time")) != null;
        }

        /**
         * Reads the columns of an object into a row; returns the texts of the properties at paths. A member of the
         * record that is no column is a property, too.
         */
        private static GenericArrayData members(
                byte[] json, int start, GenericRowData row, List<List<Json.Step>> paths) {
            int[] values = new int[paths.size()];
            for (int at = Json.space(json, start + 1); json[at] != '}'; ) {
                int key = at;
                int keyEnd = Json.skipString(json, at);
                int value = Json.space(json, Json.space(json, keyEnd) + 1);
                int column = column(json, key, keyEnd);
                if (column < 0 && json[value] == '{' && Json.isKey(json, key, keyEnd, OBJECT)) {
                    at = properties(json, value, paths, values);
                } else {
                    at = Json.skip(json, value);
                    if (column >= 0) {
                        row.setField(column, field(json, value, at, column));
                        if (column >= CLIENT_TIMESTAMP && row.isNullAt(column) && json[value] != 'n') {
                            row.setField(FAULT, StringData.fromString(COLUMNS[column] + " is no instant"));
                        }
                    } else {
                        note(json, key, keyEnd, value, paths, values);
                    }
                }
                at = Json.space(json, at);
                if (json[at] == ',') {
                    at = Json.space(json, at + 1);
                }
            }
            Object[] texts = new Object[values.length];
            for (int at = 0; at < values.length; at++) {
                List<Json.Step> path = paths.get(at);
                texts[at] = values[at] == 0 ? null : Json.string(json, values[at], path.subList(1, path.size()));
            }
            return new GenericArrayData(texts);
        }

        /** Notes the values of the members of an object with which paths begin; returns the end of the object. */
        private static int properties(byte[] json, int start, List<List<Json.Step>> paths, int[] values) {
            int at = Json.space(json, start + 1);
            while (json[at] != '}') {
                int key = at;
                int keyEnd = Json.skipString(json, at);
                int value = Json.space(json, Json.space(json, keyEnd) + 1);
                note(json, key, keyEnd, value, paths, values);
                at = Json.space(json, Json.skip(json, value));
                if (json[at] == ',') {
                    at = Json.space(json, at + 1);
                }
            }
            return at + 1;
        }

        private static void note(
                byte[] json, int key, int keyEnd, int value, List<List<Json.Step>> paths, int[] values) {
            for (int at = 0; at < values.length; at++) {
                if (Json.isKey(json, key, keyEnd, paths.get(at).get(0).member())) {
                    values[at] = value;
                }
            }
        }

        /**
         * Returns all properties: the members of the object, then those of the record that are no columns;
         * {@code event_time} is the last one, unless it is the event time.
         */
        private static byte[] properties(byte[] json, boolean isEventTime) {
            int start = Json.space(json, 0);
            ByteArrayOutputStream others = new ByteArrayOutputStream(json.length);
            ByteArrayOutputStream time = new ByteArrayOutputStream();
            byte[] object = null;
            for (int at = Json.space(json, start + 1); json[at] != '}'; ) {
                int key = at;
                int keyEnd = Json.skipString(json, at);
                int value = Json.space(json, Json.space(json, keyEnd) + 1);
                at = Json.skip(json, value);
                if (json[value] == '{' && Json.isKey(json, key, keyEnd, OBJECT)) {
                    object = Arrays.copyOfRange(json, value, at);
                } else if (column(json, key, keyEnd) < 0) {
                    ByteArrayOutputStream member = Json.isKey(json, key, keyEnd, TIME) ? time : others;
                    member.write(',');
                    member.write(json, key, at - key);
                }
                at = Json.space(json, at);
                if (json[at] == ',') {
                    at = Json.space(json, at + 1);
                }
            }
            if (!isEventTime) {
                others.writeBytes(time.toByteArray());
            }
            return joined(object, others.toByteArray());
        }

        /** Adds members, each after a comma, to an object. */
        private static byte[] joined(byte[] object, byte[] members) {
            boolean isEmpty = object == null || Json.space(object, 1) == object.length - 1;
            int kept = isEmpty ? 1 : object.length - 1;
            int from = isEmpty && members.length > 0 ? 1 : 0;
            byte[] joined = new byte[kept + members.length - from + 1];
            joined[0] = '{';
            if (!isEmpty) {
                System.arraycopy(object, 0, joined, 0, kept);
            }
            System.arraycopy(members, from, joined, kept, members.length - from);
            joined[joined.length - 1] = '}';
            return joined;
        }

        private static int column(byte[] json, int key, int keyEnd) {
            for (int column = 0; column < COLUMNS.length; column++) {
                String name = COLUMNS[column];
                int length = name.length();
                if (keyEnd - key - 2 == length && json[key + 1] == name.charAt(0)) {
                    int same = 1;
                    while (same < length && json[key + 1 + same] == name.charAt(same)) {
                        same++;
                    }
                    if (same == length) {
                        return column;
                    }
                }
            }
            return -1;
        }

        private static Object field(byte[] json, int start, int end, int column) {
            if (json[start] != '"') {
                return null;
            }
            if (column >= CLIENT_TIMESTAMP) {
                Long instant = utc(json, start, end);
                byte[] text = instant == null ? Json.content(json, start, end) : null;
                return instant != null ? instant : Instants.parse(new String(text, StandardCharsets.UTF_8));
            }
            return Json.string(json, start, end);
        }

        /** Reads {@code "2026-01-05T10:00:00.123456Z"}, with any fraction or none; null for any other form. */
        private static Long utc(byte[] json, int start, int end) {
            int at = start + 1;
            int length = end - start - 2;
            if (length < 20 || length > 27 || json[at + 4] != '-' || json[at + 7] != '-' || json[at + 10] != 'T'
                    || json[at + 13] != ':' || json[at + 16] != ':' || json[end - 2] != 'Z'
                    || length > 20 && json[at + 19] != '.') {
                return null;
            }
            int year = two(json, at) * 100 + two(json, at + 2);
            int month = two(json, at + 5);
            int day = two(json, at + 8);
            int hour = two(json, at + 11);
            int minute = two(json, at + 14);
            int second = two(json, at + 17);
            if (year < 1 || month < 1 || month > 12 || day < 1 || day > 28 && !exists(year, month, day) || hour < 0
                    || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) {
                return null;
            }
            long fraction = 0;
            long unit = 100_000;
            for (int digit = at + 20; digit < end - 2; digit++) {
                if (json[digit] < '0' || json[digit] > '9') {
                    return null;
                }
                fraction += (json[digit] - '0') * unit;
                unit /= 10;
            }
            long days = java.time.LocalDate.of(year, month, day).toEpochDay();
            return days * Instants.DAY + (hour * 3600L + minute * 60 + second) * Instants.SECOND + fraction;
        }

        private static boolean exists(int year, int month, int day) {
            return day <= java.time.YearMonth.of(year, month).lengthOfMonth();
        }

        /** Returns the number of two digits; a large negative one if they are none. */
        private static int two(byte[] json, int at) {
            int tens = json[at] - '0';
            int ones = json[at + 1] - '0';
            return tens < 0 || tens > 9 || ones < 0 || ones > 9 ? -100_000 : tens * 10 + ones;
        }
    }

    /** The late row of a record as evt writes it in JSON. */
    public static final class LateRow extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public byte[] eval(
                byte[] record,
                String registry,
                String time,
                String topic,
                Integer partition,
                Long offset,
                Long serverTimestamp,
                Long streamTime,
                String[] lateFor,
                Boolean partial)
                throws Avro.Fault {
            byte[] text = registry.isEmpty() ? record : Avro.json(record, registry);
            RowData event = Read.read(text, serverTimestamp, Read.Wanted.of(time));
            boolean isEventTime = time.equals("event_time") || time.isEmpty() && serverTimestamp == null;
            StringBuilder json = new StringBuilder("{");
            for (int column = 0; column < Read.CLIENT_TIMESTAMP; column++) {
                text(json, Read.COLUMNS[column], event.isNullAt(column) ? null : event.getString(column).toString());
            }
            String properties = new String(Read.properties(text, isEventTime), StandardCharsets.UTF_8);
            json.append("\"properties\":").append(properties).append(',');
            for (int column = Read.CLIENT_TIMESTAMP; column < Read.COLUMNS.length; column++) {
                instant(json, Read.COLUMNS[column], event.isNullAt(column) ? null : event.getLong(column));
            }
            long eventTime = event.getLong(Read.EVENT_TIME);
            instant(json, "ingested_at", Instants.micros(Instant.now()));
            instant(json, "event_time", eventTime);
            text(json, "origin", topic);
            text(json, "partition", partition.toString());
            json.append("\"offset\":").append(offset).append(',');
            instant(json, "stream_time", streamTime);
            json.append("\"late_for\":[");
            for (int at = 0; at < lateFor.length; at++) {
                json.append(at == 0 ? "" : ",");
                Json.write(json, lateFor[at]);
            }
            json.append("],\"lateness_ms\":").append((streamTime - eventTime) / 1000);
            return json.append(",\"partial\":").append(partial).append('}').toString().getBytes(StandardCharsets.UTF_8);
        }

        private static void text(StringBuilder json, String name, String value) {
            json.append('"').append(name).append("\":");
            if (value == null) {
                json.append("null");
            } else {
                Json.write(json, value);
            }
            json.append(',');
        }

        private static void instant(StringBuilder json, String name, Long micros) {
            text(json, name, micros == null ? null : Instants.format(micros));
        }
    }
}
