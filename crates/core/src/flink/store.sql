-- Run once in a database whose table aggregated_metrics the job writes: psql -f store.sql. A row of a greater revision, such as one that
-- evt-backfill has corrected, stays when a job that was restarted writes an older one.
CREATE OR REPLACE FUNCTION evt_keep_newest_metric() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.revision, NEW."rows", NEW.pane) < (OLD.revision, OLD."rows", OLD.pane) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS evt_keep_newest_metric ON aggregated_metrics;
CREATE TRIGGER evt_keep_newest_metric BEFORE UPDATE ON aggregated_metrics
FOR EACH ROW WHEN (NEW.revision < OLD.revision) EXECUTE FUNCTION evt_keep_newest_metric();
