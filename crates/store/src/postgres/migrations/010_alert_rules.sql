-- Rules get the columns that people and dashboards write. definition keeps the fields of older rules, and holds those that have no
-- column (evt-rules(5)). Only the table of step 004 has a column rule; one that people have made stays as it is.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('alert_rules') AND attname = 'rule' AND NOT attisdropped
    ) THEN
        RETURN;
    END IF;

    CREATE TABLE new_alert_rules (
        rule_id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        name TEXT,
        metric_name TEXT,
        condition TEXT,
        threshold DOUBLE PRECISION,
        window_seconds INTEGER,
        notification_channel TEXT,
        enabled BOOLEAN NOT NULL DEFAULT true,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        definition JSONB
    );

    INSERT INTO new_alert_rules (rule_id, name, enabled, created_at, updated_at, definition)
    SELECT md5(rule)::uuid, rule, enabled, updated_at, updated_at, definition FROM alert_rules;

    DROP TABLE alert_rules;
    ALTER TABLE new_alert_rules RENAME TO alert_rules;
END
$$;
