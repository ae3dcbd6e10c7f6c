-- ARGV: epoch, lifetime, users. KEYS[11], if all keys are on one server: the leader's lease.
-- Returns false for a stale epoch, otherwise the token and, for each user, the stamp, or false if it was not
-- claimed.
local LEASE = KEYS[OWN_KEYS + 1]
local epoch = tonumber(ARGV[1])
if LEASE and tonumber(redis.call('HGET', LEASE, 'epoch') or '0') ~= epoch then
    return { false, report(false) }
end
if tonumber(redis.call('HGET', META, 'epoch') or '0') > epoch then
    return { false, report(false) }
end
local token = grown('token')
-- Without the users' records the keys are inconsistent: no user is claimed until they are mended.
local users = redis.call('EXISTS', STATUS) == 1 and rest(3) or {}
local scores = ask('ZMSCORE', DUE, users)
local stamps, taken, batch, seen = {}, {}, {}, {}
for place, user in ipairs(users) do
    local stamp = scores[place]
    stamps[place] = stamp and not seen[user] and stamp
    if stamps[place] then
        seen[user] = true
        taken[#taken + 1] = user
        add(batch, user, stamp)
    end
end
if #users > 0 then
    redis.call('HSET', META, 'epoch', whole(epoch), 'token', whole(token))
end
if #taken > 0 then
    call('ZREM', DUE, taken)
    redis.call('ZADD', CLAIMED, whole(clock() + tonumber(ARGV[2])), whole(token))
    keep(whole(token), batch)
end
return { { token, stamps }, report(#taken > 0) }
