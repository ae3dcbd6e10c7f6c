-- ARGV: epoch, how long, users. KEYS[9], when all keys are on one server: the leader's lease.
-- Answers false for a stale epoch, otherwise the token and for each user the stamp, or false when not claimed.
local epoch, lasts = tonumber(ARGV[1]), tonumber(ARGV[2])
if KEYS[9] and tonumber(redis.call('HGET', KEYS[9], 'epoch') or '0') ~= epoch then
    return { false, report(false) }
end
if tonumber(redis.call('HGET', META, 'epoch') or '0') > epoch then
    return { false, report(false) }
end
local token = grown('token')
local users = rest(3)
local scores = ask('ZMSCORE', DUE, users)
local expires = clock() + lasts
local stamps, taken, claims, held, seen = {}, {}, {}, {}, {}
for place, user in ipairs(users) do
    local score = scores[place]
    if score and not seen[user] then
        seen[user] = true
        local stamp = tonumber(score)
        stamps[place] = stamp
        taken[#taken + 1] = user
        claims[#claims + 1] = expires
        claims[#claims + 1] = user
        held[#held + 1] = user
        held[#held + 1] = cmsgpack.pack({ token, stamp, 0 })
    else
        stamps[place] = false
    end
end
if redis.call('EXISTS', STATUS) == 1 then
    redis.call('HSET', META, 'epoch', string.format('%.0f', epoch), 'token', string.format('%.0f', token))
end
call('ZREM', DUE, taken)
call('ZADD', CLAIMED, claims)
call('HSET', HELD, held)
return { { token, stamps }, report(#taken > 0) }
