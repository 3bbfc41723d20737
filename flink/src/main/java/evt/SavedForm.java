package evt;

import java.io.ByteArrayOutputStream;

/** Writes a saved form: numbers little-endian, as evt writes it. */
public final class SavedForm extends ByteArrayOutputStream {
    void writeByte(int value) {
        write(value);
    }

    void writeInt(int value) {
        for (int shift = 0; shift < 32; shift += 8) {
            write(value >>> shift);
        }
    }

    void writeLong(long value) {
        writeInt((int) value);
        writeInt((int) (value >>> 32));
    }
}
