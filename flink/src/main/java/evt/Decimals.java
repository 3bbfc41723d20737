package evt;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;
import java.math.RoundingMode;

/**
 * Decimals: a mantissa times a power of ten, as a text has it or as the shortest text of a double has it. It does what
 * {@code crates/core/src/op/aggregate/decimal.rs} does.
 */
final class Decimals {
    /** What takes the decimals. */
    interface Sink {
        /** Takes {@code mantissa · 10^exponent}; the mantissa has at most 18 digits. */
        void shortDecimal(long mantissa, int exponent);

        /** Takes {@code mantissa · 10^exponent}; the mantissa has at most 38 digits. */
        void longDecimal(BigInteger mantissa, int exponent);

        /** Takes an infinity or NaN. */
        void special(double value);
    }

    private static final int SHORT_DIGITS = 18;
    private static final int DIGITS_MAX = 38;
    private static final int POWER_MAX = 400;
    private static final double[] TENS = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22
    };

    private Decimals() {}

    /**
     * Passes on a number as written, or the double nearest to it if it has too many digits. The words for what is no
     * number are those of computed doubles.
     */
    static void written(String number, Sink sink) {
        String text = number.strip();
        if (text.endsWith("N") || text.endsWith("y")) {
            sink.special(Double.parseDouble(text));
        } else if (!parse(text, sink)) {
            shortest(Double.parseDouble(text), sink);
        }
    }

    private static boolean parse(String text, Sink sink) {
        int at = 0;
        int end = text.length();
        boolean negative = end > 0 && text.charAt(0) == '-';
        if (negative || end > 0 && text.charAt(0) == '+') {
            at++;
        }
        long mantissa = 0;
        long exponent = 0;
        int digits = 0;
        int zeros = 0;
        int places = -1;
        for (; at < end; at++) {
            char c = text.charAt(at);
            if (c == '.') {
                places = 0;
            } else if (c == 'e' || c == 'E') {
                try {
                    exponent = Integer.parseInt(text.substring(at + 1));
                } catch (NumberFormatException beyond) {
                    return false;
                }
                break;
            } else {
                places += places < 0 ? 0 : 1;
                if (c == '0') {
                    zeros += digits > 0 ? 1 : 0;
                    continue;
                }
                digits += zeros + 1;
                if (digits <= SHORT_DIGITS) {
                    for (; zeros > 0; zeros--) {
                        mantissa *= 10;
                    }
                    mantissa = mantissa * 10 + (c - '0');
                }
                zeros = 0;
            }
        }
        if (digits == 0) {
            sink.shortDecimal(0, 0);
            return true;
        }
        exponent += zeros - Math.max(places, 0);
        if (digits > DIGITS_MAX || Math.abs(exponent) > POWER_MAX || Math.abs(exponent + digits) > POWER_MAX) {
            return false;
        }
        if (digits <= SHORT_DIGITS) {
            sink.shortDecimal(negative ? -mantissa : mantissa, (int) exponent);
        } else {
            BigInteger all = new BigDecimal(text).stripTrailingZeros().unscaledValue();
            sink.longDecimal(all, (int) exponent);
        }
        return true;
    }

    /** Passes on the decimal of the shortest text that reads back as a double, or a special value. */
    static void shortest(double value, Sink sink) {
        if (!Double.isFinite(value)) {
            sink.special(value);
            return;
        }
        // Of two decimals of at most 15 digits no double is nearest to both, so the first one found is the shortest.
        for (int places : new int[] {4, 0, 9}) {
            double scaled = Math.rint(value * TENS[places]);
            if (Math.abs(scaled) < 1e15 && scaled / TENS[places] == value) {
                sink.shortDecimal((long) scaled, -places);
                return;
            }
        }
        BigDecimal decimal = shortest(value);
        sink.shortDecimal(decimal.unscaledValue().longValueExact(), -decimal.scale());
    }

    /** Returns the shortest decimal that reads back as a finite double and, of several, the nearest one. */
    static BigDecimal shortest(double value) {
        BigDecimal exact = new BigDecimal(value);
        if (exact.signum() == 0) {
            return BigDecimal.ZERO;
        }
        for (int digits = 1; digits < 17; digits++) {
            BigDecimal down = exact.round(new MathContext(digits, RoundingMode.DOWN));
            BigDecimal up = exact.round(new MathContext(digits, RoundingMode.UP));
            boolean downReads = down.doubleValue() == value;
            boolean upReads = up.doubleValue() == value;
            if (downReads && upReads) {
                // Of two that are equally near, evt writes the greater magnitude.
                int nearer = exact.subtract(down).abs().compareTo(up.subtract(exact).abs());
                return (nearer < 0 ? down : up).stripTrailingZeros();
            }
            if (downReads || upReads) {
                return (downReads ? down : up).stripTrailingZeros();
            }
        }
        return exact.round(new MathContext(17, RoundingMode.HALF_EVEN)).stripTrailingZeros();
    }
}
