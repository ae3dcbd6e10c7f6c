-- Open alerts about a list or site that cannot be read: one of each, however many people it concerns. Builds before this one
-- do not show them.
CREATE TABLE location_alerts (
    tenant    TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    location  TEXT NOT NULL,
    since     INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    failure   TEXT NOT NULL,
    PRIMARY KEY (tenant, location)
) STRICT;
