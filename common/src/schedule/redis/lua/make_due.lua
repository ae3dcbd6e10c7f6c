-- ARGV: user, by how much the stamp must be older than now. Answers 1 when the user is in.
local user, ahead = ARGV[1], clock() - tonumber(ARGV[2])
local stamp = tonumber(redis.call('ZSCORE', DUE, user) or nil)
if stamp then
    if ahead < stamp then
        redis.call('ZADD', DUE, ahead, user)
    end
    return { 1, report(ahead < stamp) }
end
local held = redis.call('HGET', HELD, user)
if not held then
    return { 0, report(false) }
end
local claim = cmsgpack.unpack(held)
redis.call('HSET', HELD, user, cmsgpack.pack({ claim[1], claim[2], 1 }))
return { 1, report(false) }
