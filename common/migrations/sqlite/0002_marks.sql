-- What the data of other stores were known by when they were last looked at: a store that shows another id or a lower
-- number has lost data.
CREATE TABLE marks (
    store   TEXT    NOT NULL PRIMARY KEY,
    data_id TEXT    NOT NULL,
    number  INTEGER NOT NULL
) STRICT;
