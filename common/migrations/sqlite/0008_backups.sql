-- One row: when the last backup of this registry was made, when it was filled from a backup and of when that
-- backup was, and when it was given up because the installation moved to another registry.
CREATE TABLE backups (
    one         INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    last_backup INTEGER,
    filled_at   INTEGER,
    filled_from INTEGER,
    moved_at    INTEGER
) STRICT;
