-- The part of a user in the digest of the tenant's names, which the leader compares with the order of work. NULL in rows of
-- earlier builds, until the leader fills it.
ALTER TABLE enrolments ADD COLUMN name_digest INTEGER;
