-- ARGV: nothing; or the membership at the start of a walk over the names, and the digest that the walk
-- computed.
-- Returns the membership. Stores the digest if no user came or went since the walk began.
local membership = tonumber(redis.call('HGET', META, 'membership') or '0')
if ARGV[1] and membership == tonumber(ARGV[1]) and redis.call('EXISTS', STATUS) == 1 then
    redis.call('HSET', META, 'names', ARGV[2])
end
return membership
