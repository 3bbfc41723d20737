package evt;

import java.math.BigDecimal;
import java.util.regex.Pattern;

/** Numbers of expressions: doubles with one NaN, which is the greatest number, and without −0. */
final class Numbers {
    private static final Pattern BLANKS = Pattern.compile("^[ \\t\\n\\r\\x0b\\f]+|[ \\t\\n\\r\\x0b\\f]+$");

    private Numbers() {}

    /** Reads a text that is entirely a number, as PostgreSQL does; null if it is not, or is beyond a double. */
    static Double parse(String text) {
        if (text.isEmpty()) {
            return null;
        }
        char first = text.charAt(0);
        char last = text.charAt(text.length() - 1);
        if (first <= ' ' || last <= ' ') {
            text = BLANKS.matcher(text).replaceAll("");
        }
        for (int at = 0; at < text.length(); at++) {
            char c = text.charAt(at);
            if ((c < '0' || c > '9') && "+-.eE".indexOf(c) < 0) {
                return null;
            }
        }
        try {
            double number = Double.parseDouble(text);
            return Double.isFinite(number) ? number + 0.0 : null;
        } catch (NumberFormatException e) {
            return null;
        }
    }

    /** Reads what {@link #format} writes. */
    static double read(String text) {
        return Double.parseDouble(text.strip());
    }

    static double canonical(double number) {
        return Double.isNaN(number) ? Double.NaN : number + 0.0;
    }

    /** Writes a number as RFC 8785 does. */
    static String format(double number) {
        if (!Double.isFinite(number)) {
            return Double.isNaN(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
        }
        if (number == 0) {
            return "0";
        }
        double size = Math.abs(number);
        if (size < 1e15 && Math.rint(size) == size) {
            return Long.toString((long) number);
        }
        BigDecimal decimal = Decimals.shortest(number);
        if (size < 1e21 && size >= 1e-6) {
            return decimal.toPlainString();
        }
        String digits = decimal.unscaledValue().abs().toString();
        int exponent = digits.length() - 1 - decimal.scale();
        String fraction = digits.length() == 1 ? "" : "." + digits.substring(1);
        String sign = number < 0 ? "-" : "";
        return sign + digits.charAt(0) + fraction + (exponent < 0 ? "e" : "e+") + exponent;
    }
}
