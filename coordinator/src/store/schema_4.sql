-- Who fetched the last token that was given out, and for which boot.
ALTER TABLE deployments ADD COLUMN token_boot INTEGER;
ALTER TABLE deployments ADD COLUMN token_address TEXT;
-- What was seen of the present boot of the boot root, as JSON.
ALTER TABLE deployments ADD COLUMN boot_evidence TEXT;
