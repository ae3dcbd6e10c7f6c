-- Finds the user of a tenant who has a sign-in name: the part after the last "|", without the case of ASCII letters. Not
-- unique, because earlier builds stored one name for several users.
CREATE INDEX enrolments_login ON enrolments (
    tenant,
    trim(replace(lower(source_login), rtrim(lower(source_login), replace(lower(source_login), '|', '')), ''))
);
