package evt;

import org.apache.flink.table.functions.ScalarFunction;

/** Functions of numbers, where those of Flink differ from those of evt. */
public final class NumberFunctions {
    private NumberFunctions() {}

    /** The number that a text is, as PostgreSQL reads it; NULL if it is none. */
    public static final class Parse extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Double eval(String text) {
            return text == null ? null : Numbers.parse(text);
        }
    }

    /** The text of a number, as RFC 8785 has it. */
    public static final class Format extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(Double number) {
            return number == null ? null : Numbers.format(number);
        }
    }

    /** −1, 0 or 1, as the first number is less than, equal to or greater than the second; NaN is the greatest. */
    public static final class Compare extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Integer eval(Double first, Double second) {
            if (first == null || second == null) {
                return null;
            }
            return Double.compare(Numbers.canonical(first), Numbers.canonical(second));
        }
    }

    /** The remainder of a division, with the sign of the dividend. */
    public static final class Remainder extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Double eval(Double dividend, Double divisor) {
            return dividend == null || divisor == null ? null : Numbers.canonical(dividend % divisor);
        }
    }

    /** The nearest integer; halves are rounded away from 0. */
    public static final class Round extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Double eval(Double number) {
            if (number == null || !Double.isFinite(number)) {
                return number;
            }
            double size = Math.abs(number);
            double whole = Math.floor(size);
            double rounded = size - whole >= 0.5 ? whole + 1 : whole;
            return Numbers.canonical(number < 0 ? -rounded : rounded);
        }
    }

    /** The number, with one NaN and without −0. */
    public static final class Canonical extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Double eval(Double number) {
            return number == null ? null : Numbers.canonical(number);
        }
    }
}
