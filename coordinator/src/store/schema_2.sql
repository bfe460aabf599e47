-- A user that was removed keeps its row: reservations and journal go on naming it.
ALTER TABLE users ADD COLUMN removed_ms INTEGER;
