-- The metrics for which an event failed, and whether another metric counted it or found it late; NULL in other letters.
ALTER TABLE dead_letters ADD COLUMN metrics TEXT, ADD COLUMN partial BOOLEAN;
