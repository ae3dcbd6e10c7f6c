-- Finds the user of a tenant who has a sign-in name: the part after the last "|", without the case of ASCII letters. Not
-- unique, because earlier builds stored one name for several users. It blocks opt-ins while it is made, which takes some
-- seconds for a million users. CONCURRENTLY would wait for the processes that wait for this migration. To avoid the pause,
-- run the same statement with CONCURRENTLY before the upgrade.
CREATE INDEX IF NOT EXISTS enrolments_login ON enrolments (
    tenant,
    trim(lower(regexp_replace(source_login COLLATE "C", '^.*\|', '')))
);
