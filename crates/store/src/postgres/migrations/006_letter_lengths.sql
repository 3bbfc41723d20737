-- Bytes of the record of a letter that was cut; NULL where the letter is whole.
ALTER TABLE dead_letters ADD COLUMN original_length BIGINT;
