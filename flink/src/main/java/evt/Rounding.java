package evt;

import java.math.BigInteger;

/** Exact fractions as doubles, rounded once to the nearest one, ties to even. */
final class Rounding {
    private static final int MANTISSA_BITS = 52;
    private static final int SUBNORMAL = -1074;

    private Rounding() {}

    /** Computes {@code numerator / denominator · 10^exponent}. */
    static double quotient(BigInteger numerator, BigInteger denominator, int exponent) {
        BigInteger top = numerator.abs().multiply(tenTo(exponent));
        BigInteger bottom = denominator.multiply(tenTo(-exponent));
        int lift = lift(top, bottom, 64);
        BigInteger[] parts = top.shiftLeft(lift).divideAndRemainder(bottom);
        double magnitude = nearest(parts[0], -lift, parts[1].signum() != 0);
        return numerator.signum() < 0 ? -magnitude : magnitude;
    }

    /** Computes {@code √(numerator / denominator · 10^exponent)}. */
    static double root(BigInteger numerator, BigInteger denominator, int exponent) {
        BigInteger top = numerator.multiply(tenTo(exponent));
        BigInteger bottom = denominator.multiply(tenTo(-exponent));
        int lift = lift(top, bottom, 128);
        BigInteger[] parts = top.shiftLeft(lift).divideAndRemainder(bottom);
        BigInteger[] root = parts[0].sqrtAndRemainder();
        return nearest(root[0], -lift / 2, parts[1].signum() != 0 || root[1].signum() != 0);
    }

    private static BigInteger tenTo(int exponent) {
        return BigInteger.TEN.pow(Math.max(exponent, 0));
    }

    /** Returns an even number of bits by which the numerator is shifted so that the quotient has enough bits. */
    private static int lift(BigInteger top, BigInteger bottom, int bits) {
        int lift = Math.max(0, bits + bottom.bitLength() - top.bitLength());
        return lift + lift % 2;
    }

    /** Returns the double nearest to a number between {@code whole · 2^exponent} and the next whole number. */
    private static double nearest(BigInteger whole, int exponent, boolean hasRest) {
        if (whole.signum() == 0) {
            return 0.0;
        }
        int last = Math.max(whole.bitLength() - 1 + exponent - MANTISSA_BITS, SUBNORMAL);
        int cut = last - exponent;
        BigInteger kept = whole.shiftRight(cut);
        boolean half = cut > 0 && whole.testBit(cut - 1);
        boolean beyond = hasRest || cut > 1 && whole.getLowestSetBit() < cut - 1;
        long mantissa = kept.longValueExact() + (half && (beyond || kept.testBit(0)) ? 1 : 0);
        // A mantissa without the hidden bit is subnormal. Addition lets 2⁵³ and 2⁵² carry into the exponent.
        long power = mantissa == 0 ? 0 : (long) last - SUBNORMAL;
        if (power > 2046) {
            return Double.POSITIVE_INFINITY;
        }
        return Double.longBitsToDouble(
                Math.min((power << MANTISSA_BITS) + mantissa, Double.doubleToRawLongBits(Double.POSITIVE_INFINITY)));
    }
}
