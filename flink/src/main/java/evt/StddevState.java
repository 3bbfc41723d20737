package evt;

import java.math.BigInteger;
import java.nio.ByteBuffer;

/** The state of stddev: the exact sums of the values and of their squares. */
public final class StddevState implements State, Decimals.Sink {
    private static final long BASE = 1_000_000_000;

    private ExactSum sum = new ExactSum();
    private ExactSum squares = new ExactSum();
    private long count;
    private int specials;

    @Override
    public void shortDecimal(long mantissa, int exponent) {
        count++;
        sum.add(mantissa, exponent);
        long size = Math.abs(mantissa);
        if (size < BASE) {
            squares.add(size * size, 2 * exponent);
        } else {
            longSquare(BigInteger.valueOf(size), exponent);
        }
    }

    @Override
    public void longDecimal(BigInteger mantissa, int exponent) {
        count++;
        sum.add(mantissa, exponent);
        longSquare(mantissa, exponent);
    }

    private void longSquare(BigInteger mantissa, int exponent) {
        squares.add(mantissa.multiply(mantissa), 2 * exponent);
    }

    @Override
    public void special(double value) {
        count++;
        specials = SumState.special(value, specials);
    }

    void merge(StddevState other) {
        sum.merge(other.sum);
        squares.merge(other.squares);
        count += other.count;
        specials |= other.specials;
    }

    /** Computes √((n·Σx² − (Σx)²) / (n·(n − 1))); null for fewer than two values. */
    Double stddev() {
        if (count < 2) {
            return null;
        }
        if (specials != 0) {
            return Double.NaN;
        }
        int least = Math.min(squares.exponent(), 2 * sum.exponent());
        BigInteger n = BigInteger.valueOf(count);
        BigInteger total = sum.mantissa();
        BigInteger squareOfSum = total.multiply(total).multiply(BigInteger.TEN.pow(2 * sum.exponent() - least));
        BigInteger sumOfSquares = squares.mantissa().multiply(BigInteger.TEN.pow(squares.exponent() - least));
        BigInteger spread = sumOfSquares.multiply(n).subtract(squareOfSum);
        return Rounding.root(spread, n.multiply(n.subtract(BigInteger.ONE)), least);
    }

    @Override
    public void save(SavedForm out) {
        out.writeByte(SumState.VERSION);
        out.writeLong(count);
        out.writeByte(specials);
        sum.save(out);
        squares.save(out);
    }

    static StddevState load(ByteBuffer in) {
        State.expect(in, SumState.VERSION);
        StddevState state = new StddevState();
        state.count = in.getLong();
        state.specials = in.get();
        state.sum = ExactSum.load(in);
        state.squares = ExactSum.load(in);
        return state;
    }
}
