-- The registry. Timestamps are integer microseconds since 1970 in UTC; names are stored in lower case, as the model
-- makes them. Documents are JSON. Nothing here holds a secret.

CREATE TABLE tenants (
    id       TEXT    NOT NULL PRIMARY KEY,
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    document TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE enrolments (
    tenant          TEXT    NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id         TEXT    NOT NULL,
    source_login    TEXT    NOT NULL,
    mailbox         TEXT    NOT NULL,
    time_zone       TEXT,
    opted_in_at     INTEGER NOT NULL,
    disabled_since  INTEGER,
    failure         TEXT,
    deletion_permit INTEGER NOT NULL DEFAULT 0 CHECK (deletion_permit IN (0, 1)),
    PRIMARY KEY (tenant, user_id),
    CHECK ((disabled_since IS NULL) = (failure IS NULL))
) STRICT, WITHOUT ROWID;

-- One mailbox belongs to one user of the whole installation.
CREATE UNIQUE INDEX enrolments_mailbox ON enrolments (mailbox);

-- A forgotten state keeps its row and version (present = 0), so that a version is never used twice for two states.
-- The blob is the last column: reading fingerprints does not touch its overflow pages.
CREATE TABLE sync_states (
    tenant      TEXT    NOT NULL,
    user_id     TEXT    NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    present     INTEGER NOT NULL CHECK (present IN (0, 1)),
    fingerprint BLOB    NOT NULL,
    state       BLOB    NOT NULL,
    PRIMARY KEY (tenant, user_id),
    FOREIGN KEY (tenant, user_id) REFERENCES enrolments (tenant, user_id) ON DELETE CASCADE
) STRICT;

CREATE TABLE stamps (
    tenant       TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    stamp        INTEGER NOT NULL,
    last_success INTEGER,
    PRIMARY KEY (tenant, user_id),
    FOREIGN KEY (tenant, user_id) REFERENCES enrolments (tenant, user_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- No reference to tenants or enrolments: the journal outlives both.
CREATE TABLE journal (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    tenant       TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    task         TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    value_before TEXT,
    value_after  TEXT
) STRICT;
CREATE INDEX journal_user ON journal (tenant, user_id, at, id);
CREATE INDEX journal_at ON journal (at);

CREATE TABLE alerts (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    since    INTEGER NOT NULL,
    tenant   TEXT    NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id  TEXT,
    code     TEXT    NOT NULL,
    failure  TEXT    NOT NULL,
    evidence TEXT,
    FOREIGN KEY (tenant, user_id) REFERENCES enrolments (tenant, user_id) ON DELETE CASCADE
) STRICT;
-- At most one open alert per tenant, user and code.
CREATE UNIQUE INDEX alerts_subject ON alerts (tenant, COALESCE(user_id, ''), code);
CREATE INDEX alerts_since ON alerts (since, id);

-- Holds no row: what is written here to learn whether writing works is deleted in the same transaction.
CREATE TABLE write_probe (
    id INTEGER NOT NULL PRIMARY KEY
) STRICT;
