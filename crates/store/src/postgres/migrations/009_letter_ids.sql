-- The id of a letter, which it keeps when its payload is repaired; NULL in older rows, where it is derived when they are read.
ALTER TABLE dead_letters ADD COLUMN letter_id UUID;
