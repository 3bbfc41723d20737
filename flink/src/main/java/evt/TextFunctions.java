package evt;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.table.functions.ScalarFunction;

/** Functions of texts, where those of Flink differ from those of evt. */
public final class TextFunctions {
    private TextFunctions() {}

    /** The truth that a text is: true or false, in any case; NULL if it is neither. */
    public static final class ParseBoolean extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Boolean eval(String text) {
            if (text == null) {
                return null;
            }
            return text.equalsIgnoreCase("true") ? Boolean.TRUE : text.equalsIgnoreCase("false") ? Boolean.FALSE : null;
        }
    }

    /** The text in lower case. */
    public static final class Lower extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(String text) {
            return text == null ? null : text.toLowerCase(Locale.ROOT);
        }
    }

    /** The text in upper case. */
    public static final class Upper extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(String text) {
            return text == null ? null : text.toUpperCase(Locale.ROOT);
        }
    }

    /** The text without white space at both ends. */
    public static final class Trim extends ScalarFunction {
        private static final long serialVersionUID = 1;

        private static final Pattern SPACE = Pattern.compile("\\A\\s+|\\s+\\z", Pattern.UNICODE_CHARACTER_CLASS);

        public String eval(String text) {
            return text == null ? null : SPACE.matcher(text).replaceAll("");
        }
    }

    /** Characters from a position, counted from 1; positions outside of the text are skipped. */
    public static final class Substr extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(String text, Double first) {
            return eval(text, first, Double.POSITIVE_INFINITY);
        }

        public String eval(String text, Double first, Double count) {
            if (text == null || first == null || count == null) {
                return null;
            }
            double start = truncated(first) - 1;
            int begin = position(text, start);
            return text.substring(begin, Math.max(begin, position(text, start + truncated(count))));
        }

        private static double truncated(double number) {
            return number < 0 ? Math.ceil(number) : Math.floor(number);
        }

        /** Returns the index of a character; a position beyond the end is the end. */
        private static int position(String text, double position) {
            long characters = (long) Math.max(0, position);
            return characters >= text.codePointCount(0, text.length())
                    ? text.length()
                    : text.offsetByCodePoints(0, (int) characters);
        }
    }

    /** The part of a text between separators, from 1, or from −1 at the end; empty if there is none. */
    public static final class SplitPart extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(String text, String separator, Double number) {
            if (text == null || separator == null || number == null) {
                return null;
            }
            long part = number.longValue();
            if (part == 0 || separator.isEmpty()) {
                return Math.abs(part) == 1 ? text : "";
            }
            return part > 0 ? fromStart(text, separator, part) : fromEnd(text, separator, -part);
        }

        private static String fromStart(String text, String separator, long part) {
            int start = 0;
            for (long at = 1; at < part; at++) {
                int next = text.indexOf(separator, start);
                if (next < 0) {
                    return "";
                }
                start = next + separator.length();
            }
            int end = text.indexOf(separator, start);
            return text.substring(start, end < 0 ? text.length() : end);
        }

        private static String fromEnd(String text, String separator, long part) {
            int end = text.length();
            for (long at = 1; at < part; at++) {
                int next = text.lastIndexOf(separator, end - separator.length());
                if (next < 0 || end < separator.length()) {
                    return "";
                }
                end = next;
            }
            int start = end < separator.length() ? -1 : text.lastIndexOf(separator, end - separator.length());
            return text.substring(start < 0 ? 0 : start + separator.length(), end);
        }
    }

    /** The text with a part replaced; an empty part is in no text. */
    public static final class Replace extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(String text, String from, String to) {
            if (text == null || from == null || to == null) {
                return null;
            }
            return from.isEmpty() ? text : text.replace(from, to);
        }
    }

    /** Whether a regular expression matches somewhere in the text. */
    public static final class Matches extends ScalarFunction {
        private static final long serialVersionUID = 1;

        private transient Pattern pattern;

        public Boolean eval(String text, String regex) {
            if (text == null) {
                return null;
            }
            pattern = compiled(pattern, regex);
            return pattern.matcher(text).find();
        }
    }

    /** The first match of a regular expression, or of a group in it; empty if nothing matches. */
    public static final class RegexpExtract extends ScalarFunction {
        private static final long serialVersionUID = 1;

        private transient Pattern pattern;

        public String eval(String text, String regex, Integer group) {
            if (text == null) {
                return null;
            }
            pattern = compiled(pattern, regex);
            Matcher matcher = pattern.matcher(text);
            String found = matcher.find() ? matcher.group(group) : null;
            return found == null ? "" : found;
        }
    }

    /** Compiles a regular expression, unless it is the one that is compiled already. */
    private static Pattern compiled(Pattern last, String regex) {
        return last != null && last.pattern().equals(regex) ? last : Pattern.compile(regex);
    }
}
