-- One row: the name of this installation, made once. Markers in mailboxes carry it.
CREATE TABLE installation (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    id  TEXT   NOT NULL
);
