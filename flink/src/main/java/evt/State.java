package evt;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** The mutable state of an aggregate. Its saved form is the one that evt writes: equal multisets, equal bytes. */
public interface State {
    /** Appends the saved form. */
    void save(SavedForm out);

    /** Returns the saved form. */
    default byte[] saved() {
        SavedForm out = new SavedForm();
        save(out);
        return out.toByteArray();
    }

    /** Returns a reader of a saved form. */
    static ByteBuffer reader(byte[] saved) {
        return ByteBuffer.wrap(saved).order(ByteOrder.LITTLE_ENDIAN);
    }

    /** Checks the version with which a saved form starts. */
    static void expect(ByteBuffer in, int version) {
        byte found = in.get();
        if (found != version) {
            throw new IllegalStateException("a state of an aggregate has version " + found + ", expected " + version);
        }
    }
}
