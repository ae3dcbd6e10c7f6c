-- ARGV: user. Answers false, or: stamp, 1 when claimed, record, failure or false.
local user = ARGV[1]
local packed = redis.call('HGET', STATUS, user)
if not packed then
    return false
end
local stamp = redis.call('ZSCORE', DUE, user)
local failure = redis.call('HGET', FAILURES, user)
if stamp then
    return { tonumber(stamp), 0, packed, failure }
end
local held = redis.call('HGET', HELD, user)
return { held and cmsgpack.unpack(held)[2] or 0, 1, packed, failure }
