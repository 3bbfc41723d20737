package evt;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.data.StringData;

/** Reads JSON text in bytes: where values end, what a string contains, and the value at a path. */
final class Json {
    /** Deeper values are no JSON for evt. */
    private static final int DEPTH_MAX = 512;

    private static final VarHandle LONGS = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final long EACH = 0x0101010101010101L;

    private Json() {}

    /** One step of a path: the member with a name or, without a name, the element at a position. */
    record Step(byte[] member, int element) {}

    /** Returns the index after the white space at an index. */
    static int space(byte[] json, int at) {
        while (at < json.length && (json[at] == ' ' || json[at] == '\n' || json[at] == '\t' || json[at] == '\r')) {
            at++;
        }
        return at;
    }

    /** Returns the end of the value that begins at an index, or −1 if it is not JSON. */
    static int end(byte[] json, int at) {
        return end(json, at, 0);
    }

    private static int end(byte[] json, int at, int depth) {
        if (at >= json.length || depth > DEPTH_MAX) {
            return -1;
        }
        return switch (json[at]) {
            case '"' -> stringEnd(json, at);
            case '{' -> listEnd(json, at, depth, true);
            case '[' -> listEnd(json, at, depth, false);
            case 't' -> wordEnd(json, at, "true");
            case 'f' -> wordEnd(json, at, "false");
            case 'n' -> wordEnd(json, at, "null");
            default -> numberEnd(json, at);
        };
    }

    private static int wordEnd(byte[] json, int at, String word) {
        for (int index = 0; index < word.length(); index++) {
            if (at + index >= json.length || json[at + index] != word.charAt(index)) {
                return -1;
            }
        }
        return at + word.length();
    }

    /**
     * Returns the index of the first quote, backslash or control character at or after an index, or the length. It looks
     * at eight bytes at once: a fifth of the time of a job was spent with single ones.
     */
    private static int plainEnd(byte[] json, int at) {
        for (; at + 8 <= json.length; at += 8) {
            long bytes = (long) LONGS.get(json, at);
            long quotes = bytes ^ '"' * EACH;
            long backslashes = bytes ^ '\\' * EACH;
            // The highest bit of a byte is set if it is less than the subtrahend; a borrow reaches only bytes above.
            long found = (quotes - EACH & ~quotes) | (backslashes - EACH & ~backslashes) | (bytes - ' ' * EACH & ~bytes);
            found &= 0x80 * EACH;
            if (found != 0) {
                return at + Long.numberOfTrailingZeros(found) / 8;
            }
        }
        while (at < json.length && json[at] != '"' && json[at] != '\\' && (json[at] < 0 || json[at] >= ' ')) {
            at++;
        }
        return at;
    }

    static int stringEnd(byte[] json, int at) {
        for (at = plainEnd(json, at + 1); at < json.length; at = plainEnd(json, at + 1)) {
            byte c = json[at];
            if (c == '"') {
                return at + 1;
            } else if (c >= 0 && c < 0x20) {
                return -1;
            } else if (c == '\\') {
                at++;
                if (at < json.length && json[at] == 'u') {
                    for (int digit = 1; digit <= 4; digit++) {
                        if (at + digit >= json.length || Character.digit(json[at + digit], 16) < 0) {
                            return -1;
                        }
                    }
                    at += 4;
                } else if (at >= json.length || "\"\\/bfnrt".indexOf(json[at]) < 0) {
                    return -1;
                }
            }
        }
        return -1;
    }

    private static int listEnd(byte[] json, int at, int depth, boolean isObject) {
        byte close = (byte) (isObject ? '}' : ']');
        at = space(json, at + 1);
        if (at < json.length && json[at] == close) {
            return at + 1;
        }
        while (at < json.length) {
            if (isObject) {
                at = json[at] == '"' ? stringEnd(json, at) : -1;
                at = at < 0 ? -1 : space(json, at);
                if (at < 0 || at >= json.length || json[at] != ':') {
                    return -1;
                }
                at = space(json, at + 1);
            }
            at = end(json, at, depth + 1);
            if (at < 0) {
                return -1;
            }
            at = space(json, at);
            if (at < json.length && json[at] == close) {
                return at + 1;
            }
            if (at >= json.length || json[at] != ',') {
                return -1;
            }
            at = space(json, at + 1);
        }
        return -1;
    }

    private static int numberEnd(byte[] json, int at) {
        if (at < json.length && json[at] == '-') {
            at++;
        }
        int whole = digits(json, at);
        if (whole == at || json[at] == '0' && whole > at + 1) {
            return -1;
        }
        at = whole;
        if (at < json.length && json[at] == '.') {
            int fraction = digits(json, at + 1);
            if (fraction == at + 1) {
                return -1;
            }
            at = fraction;
        }
        if (at < json.length && (json[at] | 0x20) == 'e') {
            int sign = at + 1 < json.length && (json[at + 1] == '+' || json[at + 1] == '-') ? 2 : 1;
            int exponent = digits(json, at + sign);
            return exponent == at + sign ? -1 : exponent;
        }
        return at;
    }

    /** Returns the end of the string that begins at an index of valid JSON. */
    static int skipString(byte[] json, int at) {
        at = plainEnd(json, at + 1);
        while (json[at] != '"') {
            at = plainEnd(json, at + 2);
        }
        return at + 1;
    }

    /** Returns the end of the value that begins at an index of valid JSON. */
    static int skip(byte[] json, int at) {
        byte first = json[at];
        if (first == '"') {
            return skipString(json, at);
        } else if (first != '{' && first != '[') {
            while (at < json.length && json[at] != ',' && json[at] != '}' && json[at] != ']' && json[at] > ' ') {
                at++;
            }
            return at;
        }
        int depth = 0;
        do {
            byte c = json[at];
            if (c == '"') {
                at = skipString(json, at);
                continue;
            }
            depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
            at++;
        } while (depth > 0);
        return at;
    }

    /**
     * Returns the text of the value at a path below the value at an index, as Flink has it: the content of a string, else
     * the value as it is; null for null, or if there is none.
     */
    static StringData string(byte[] json, int at, List<Step> path) {
        for (Step step : path) {
            at = step.member != null ? member(json, at, step.member) : element(json, at, step.element);
            if (at < 0) {
                return null;
            }
        }
        int end = skip(json, at);
        return switch (json[at]) {
            case '"' -> string(json, at, end);
            case 'n' -> null;
            default -> StringData.fromBytes(json, at, end - at);
        };
    }

    /** Returns the content of the string in a range as Flink has it, without a copy if it has no escapes. */
    static StringData string(byte[] json, int start, int end) {
        if (plainEnd(json, start + 1) < end - 1) {
            return StringData.fromBytes(content(json, start, end));
        }
        return StringData.fromBytes(json, start + 1, end - start - 2);
    }

    private static int digits(byte[] json, int at) {
        while (at < json.length && json[at] >= '0' && json[at] <= '9') {
            at++;
        }
        return at;
    }

    /** Returns the content of the string in a range, which begins and ends with its quotes. */
    static byte[] content(byte[] json, int start, int end) {
        int escape = start + 1;
        while (escape < end - 1 && json[escape] != '\\') {
            escape++;
        }
        if (escape == end - 1) {
            return java.util.Arrays.copyOfRange(json, start + 1, end - 1);
        }
        StringBuilder text = new StringBuilder(end - start);
        int plain = start + 1;
        for (int at = escape; at < end - 1; at++) {
            if (json[at] != '\\') {
                continue;
            }
            text.append(new String(json, plain, at - plain, StandardCharsets.UTF_8));
            at++;
            switch (json[at]) {
                case 'b' -> text.append('\b');
                case 'f' -> text.append('\f');
                case 'n' -> text.append('\n');
                case 'r' -> text.append('\r');
                case 't' -> text.append('\t');
                case 'u' -> {
                    text.append((char) Integer.parseInt(new String(json, at + 1, 4, StandardCharsets.US_ASCII), 16));
                    at += 4;
                }
                default -> text.append((char) json[at]);
            }
            plain = at + 1;
        }
        return text.append(new String(json, plain, end - 1 - plain, StandardCharsets.UTF_8))
                .toString()
                .getBytes(StandardCharsets.UTF_8);
    }

    /** Returns where the value of a member begins; the last one of its name counts. */
    private static int member(byte[] json, int at, byte[] name) {
        if (json[at] != '{') {
            return -1;
        }
        int found = -1;
        for (at = space(json, at + 1); json[at] != '}'; ) {
            int key = at;
            int keyEnd = skipString(json, at);
            at = space(json, space(json, keyEnd) + 1);
            if (isKey(json, key, keyEnd, name)) {
                found = at;
            }
            at = space(json, skip(json, at));
            if (json[at] == ',') {
                at = space(json, at + 1);
            }
        }
        return found;
    }

    /** Whether the string in a range, with its quotes, is a name. */
    static boolean isKey(byte[] json, int start, int end, byte[] name) {
        if (end - start - 2 == name.length) {
            return java.util.Arrays.equals(json, start + 1, end - 1, name, 0, name.length);
        }
        // A key with escapes is longer than what it means.
        return end - start - 2 > name.length && hasEscape(json, start, end) && java.util.Arrays.equals(content(json, start, end), name);
    }

    private static boolean hasEscape(byte[] json, int start, int end) {
        for (int at = start; at < end; at++) {
            if (json[at] == '\\') {
                return true;
            }
        }
        return false;
    }

    /** Returns where the element at a position begins: from 1, or from the end if it is negative. */
    private static int element(byte[] json, int at, int position) {
        if (json[at] != '[') {
            return -1;
        }
        List<Integer> starts = new ArrayList<>();
        for (at = space(json, at + 1); json[at] != ']'; ) {
            starts.add(at);
            at = space(json, skip(json, at));
            if (json[at] == ',') {
                at = space(json, at + 1);
            }
        }
        int index = position < 0 ? starts.size() + position : position - 1;
        return index >= 0 && index < starts.size() ? starts.get(index) : -1;
    }

    /**
     * Reads a path such as {@code a.b[1]."c.d"}: names with points, brackets or quotes are in quotes, in which two
     * quotes stand for one.
     */
    static List<Step> path(String text) {
        List<Step> steps = new ArrayList<>();
        int at = 0;
        while (at < text.length()) {
            if (text.charAt(at) == '[') {
                int end = text.indexOf(']', at);
                steps.add(new Step(null, Integer.parseInt(text.substring(at + 1, end))));
                at = end + 1;
                continue;
            }
            at += text.charAt(at) == '.' ? 1 : 0;
            StringBuilder name = new StringBuilder();
            if (text.charAt(at) == '"') {
                for (at++; text.charAt(at) != '"' || at + 1 < text.length() && text.charAt(at + 1) == '"'; at++) {
                    at += text.charAt(at) == '"' ? 1 : 0;
                    name.append(text.charAt(at));
                }
                at++;
            } else {
                for (; at < text.length() && text.charAt(at) != '.' && text.charAt(at) != '['; at++) {
                    name.append(text.charAt(at));
                }
            }
            steps.add(new Step(name.toString().getBytes(StandardCharsets.UTF_8), 0));
        }
        return steps;
    }

    /** Appends a string, with the escapes of RFC 8785. */
    static void write(StringBuilder json, String text) {
        json.append('"');
        for (int at = 0; at < text.length(); at++) {
            char c = text.charAt(at);
            switch (c) {
                case '"' -> json.append("\\\"");
                case '\\' -> json.append("\\\\");
                case '\b' -> json.append("\\b");
                case '\f' -> json.append("\\f");
                case '\n' -> json.append("\\n");
                case '\r' -> json.append("\\r");
                case '\t' -> json.append("\\t");
                default -> json.append(c < 0x20 ? String.format("\\u%04x", (int) c) : String.valueOf(c));
            }
        }
        json.append('"');
    }
}
