-- ARGV: nothing, or the membership and the digest that a walk over the names began with and found. Answers the membership.
-- The digest is stored if nobody came or went since the walk began.
local membership = tonumber(redis.call('HGET', META, 'membership') or '0')
if ARGV[1] and membership == tonumber(ARGV[1]) and redis.call('EXISTS', STATUS) == 1 then
    redis.call('HSET', META, 'names', ARGV[2])
end
return membership
