package evt;

/** The value of an event and its rank among others. */
public final class RankedValue {
    public Double value;
    public Long time;
    public String id;
    public String text;

    /** Compares the rank of an event with that of the held one. */
    int compare(Long otherTime, String otherId, String otherText) {
        int times = Long.compare(otherTime, time);
        if (times != 0) {
            return times;
        }
        int ids = otherId.compareTo(id);
        return ids != 0 ? ids : otherText.compareTo(text);
    }

    void keep(Double newValue, Long newTime, String newId, String newText) {
        value = newValue;
        time = newTime;
        id = newId;
        text = newText;
    }
}
