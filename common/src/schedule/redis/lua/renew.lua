-- ARGV: token, how long, users. Answers how many users the tenant has, the batch under this token (users and stamps by
-- turns, packed; false when nothing is left of it), and for each of those named the record, or false.
local token, users = ARGV[1], rest(3)
local batch = redis.call('HGET', BATCHES, token)
if batch then
    redis.call('ZADD', CLAIMED, whole(clock() + tonumber(ARGV[2])), token)
end
return { redis.call('HLEN', STATUS), batch, batch and ask('HMGET', STATUS, users) or {} }
