-- ARGV: user. Returns false, or: stamp, 1 if claimed (otherwise 0), record, failure or false, and the stamp from
-- which the user's wait counts.
local user = ARGV[1]
local packed = redis.call('HGET', STATUS, user)
if not packed then
    return false
end
local stamp = redis.call('ZSCORE', DUE, user)
local failure = redis.call('HGET', FAILURES, user)
local requested = redis.call('HGET', REQUESTED, user)
if stamp then
    return { stamp, 0, packed, failure, waits_from(stamp, requested) }
end
local token, batch, place = claim_of(user)
stamp = token and batch[place + 1] or '0'
return { stamp, 1, packed, failure, waits_from(stamp, requested) }
