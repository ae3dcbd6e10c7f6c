-- ARGV: token, lifetime, users.
-- Returns the tenant's number of users, the batch under this token (users and stamps alternately, packed;
-- false if it is gone), and for each named user the record, or false.
local token, users = ARGV[1], rest(3)
local batch = redis.call('HGET', BATCHES, token)
if batch then
    redis.call('ZADD', CLAIMED, whole(clock() + tonumber(ARGV[2])), token)
end
return { redis.call('HLEN', STATUS), batch, batch and ask('HMGET', STATUS, users) or {} }
