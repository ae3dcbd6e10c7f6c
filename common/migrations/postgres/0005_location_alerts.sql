-- Open alerts about a list or site that cannot be read: one of each, however many people it concerns. Builds before this one
-- do not show them.
CREATE TABLE location_alerts (
    tenant    TEXT   COLLATE "C" NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    location  TEXT   COLLATE "C" NOT NULL,
    since     BIGINT NOT NULL,
    confirmed BIGINT NOT NULL,
    failure   TEXT NOT NULL,
    PRIMARY KEY (tenant, location)
);
