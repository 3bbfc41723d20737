-- Rules get the columns that people and dashboards write. definition keeps the fields of older rules, and holds those that have no
-- column (evt-rules(5)).
ALTER TABLE alert_rules RENAME TO old_alert_rules;
ALTER TABLE old_alert_rules RENAME CONSTRAINT alert_rules_pkey TO old_alert_rules_pkey;

CREATE TABLE alert_rules (
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

INSERT INTO alert_rules (rule_id, name, enabled, created_at, updated_at, definition)
SELECT md5(rule)::uuid, rule, enabled, updated_at, updated_at, definition FROM old_alert_rules;

DROP TABLE old_alert_rules;
