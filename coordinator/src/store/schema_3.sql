-- A switch that was removed keeps its row while retired nodes name it.
ALTER TABLE switches ADD COLUMN removed_ms INTEGER;
