-- The registry. Timestamps are integer microseconds since 1970 in UTC; names are stored in lower case, as the model
-- makes them, and compared byte by byte (COLLATE "C"), as the model compares them. Documents are JSON kept as text: they
-- come back exactly as they were written. Nothing here holds a secret.

CREATE TABLE tenants (
    id       TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    enabled  BOOLEAN NOT NULL,
    document TEXT    NOT NULL
);

CREATE TABLE enrolments (
    tenant          TEXT    COLLATE "C" NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id         TEXT    COLLATE "C" NOT NULL,
    source_login    TEXT    NOT NULL,
    mailbox         TEXT    COLLATE "C" NOT NULL,
    time_zone       TEXT,
    opted_in_at     BIGINT  NOT NULL,
    disabled_since  BIGINT,
    failure         TEXT,
    deletion_permit BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (tenant, user_id),
    CHECK ((disabled_since IS NULL) = (failure IS NULL))
);

-- One mailbox belongs to one user of the whole installation.
CREATE UNIQUE INDEX enrolments_mailbox ON enrolments (mailbox);

-- A forgotten state keeps its row and version (present is false), so that a version is never used twice for two states.
-- A large blob lies outside the row (TOAST), so reading fingerprints does not touch it. Pages keep room for the next
-- version of a row: no index changes with it, so it can stay on its page.
CREATE TABLE sync_states (
    tenant      TEXT    COLLATE "C" NOT NULL,
    user_id     TEXT    COLLATE "C" NOT NULL,
    version     BIGINT  NOT NULL CHECK (version > 0),
    present     BOOLEAN NOT NULL,
    fingerprint BYTEA   NOT NULL,
    state       BYTEA   NOT NULL,
    PRIMARY KEY (tenant, user_id),
    FOREIGN KEY (tenant, user_id) REFERENCES enrolments (tenant, user_id) ON DELETE CASCADE
) WITH (fillfactor = 70);

CREATE TABLE stamps (
    tenant       TEXT   COLLATE "C" NOT NULL,
    user_id      TEXT   COLLATE "C" NOT NULL,
    stamp        BIGINT NOT NULL,
    last_success BIGINT,
    PRIMARY KEY (tenant, user_id),
    FOREIGN KEY (tenant, user_id) REFERENCES enrolments (tenant, user_id) ON DELETE CASCADE
) WITH (fillfactor = 70);

-- No reference to tenants or enrolments: the journal outlives both.
CREATE TABLE journal (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           BIGINT NOT NULL,
    tenant       TEXT   COLLATE "C" NOT NULL,
    user_id      TEXT   COLLATE "C" NOT NULL,
    task         TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    value_before TEXT,
    value_after  TEXT
);
CREATE INDEX journal_user ON journal (tenant, user_id, at, id);
CREATE INDEX journal_at ON journal (at, id);

CREATE TABLE alerts (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since    BIGINT NOT NULL,
    tenant   TEXT   COLLATE "C" NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id  TEXT   COLLATE "C",
    code     TEXT   NOT NULL,
    failure  TEXT   NOT NULL,
    evidence TEXT,
    FOREIGN KEY (tenant, user_id) REFERENCES enrolments (tenant, user_id) ON DELETE CASCADE
);
-- At most one open alert per tenant, user and code.
CREATE UNIQUE INDEX alerts_subject ON alerts (tenant, COALESCE(user_id, ''), code);
-- Found when a user withdraws.
CREATE INDEX alerts_user ON alerts (tenant, user_id);
CREATE INDEX alerts_since ON alerts (since, id);

-- Holds no row: what is written here to learn whether writing works is deleted in the same transaction.
CREATE TABLE write_probe (
    id BIGINT NOT NULL PRIMARY KEY
);

-- One row: a build must know at least this migration to work with these tables. Raised only by a migration that takes
-- something away (see migrations/README.md).
CREATE TABLE compatibility (
    minimum_migration BIGINT NOT NULL
);
INSERT INTO compatibility (minimum_migration) VALUES (1);
