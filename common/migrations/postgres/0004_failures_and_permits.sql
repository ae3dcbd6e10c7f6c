-- Failures in a row of a user, so that they survive restarts and are seen from the first one on. All empty when the last
-- attempt succeeded.
ALTER TABLE stamps ADD COLUMN failing_since BIGINT;
ALTER TABLE stamps ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE stamps ADD COLUMN failure TEXT;

-- A permit for held deletions names the plan it releases and ends. The column deletion_permit of earlier builds is no longer
-- read.
ALTER TABLE enrolments ADD COLUMN permit_plan TEXT;
ALTER TABLE enrolments ADD COLUMN permit_until BIGINT;

-- The write probe needs new pages, or it would still succeed on a full volume.
ALTER TABLE write_probe ADD COLUMN filler BYTEA;
ALTER TABLE write_probe ALTER COLUMN filler SET STORAGE EXTERNAL;
