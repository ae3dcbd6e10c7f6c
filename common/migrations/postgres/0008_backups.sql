-- One row: when the last backup of this registry was made, when it was filled from a backup and of when that
-- backup was, and when it was given up because the installation moved to another registry.
CREATE TABLE backups (
    one         BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    last_backup BIGINT,
    filled_at   BIGINT,
    filled_from BIGINT,
    moved_at    BIGINT
);
