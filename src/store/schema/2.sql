-- Ages are of the time that the store has lived, so that a clock that is set makes nothing old.

-- in milliseconds, at the last commit
ALTER TABLE total ADD COLUMN lived INTEGER NOT NULL DEFAULT 0;
-- when that was, by the clock, in milliseconds since 1970; 0: it was not set
ALTER TABLE total ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
-- when they came, by that
ALTER TABLE message ADD COLUMN lived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gap ADD COLUMN lived INTEGER NOT NULL DEFAULT 0;
