-- ARGV: user, by how much the stamp must be older than now, minimum time between syncs. Returns 1 if the user
-- is in the schedule.
local user, now = ARGV[1], clock()
local ahead = now - tonumber(ARGV[2])
local stamp = redis.call('ZSCORE', DUE, user)
if stamp then
    local later = ahead < tonumber(stamp)
    if later then
        local from = math.min(tonumber(stamp), now - tonumber(ARGV[3]))
        redis.call('HSET', REQUESTED, user, requested_entry(ahead, from))
        redis.call('ZADD', DUE, whole(ahead), user)
    end
    return { 1, report(later) }
end
if redis.call('HEXISTS', STATUS, user) == 0 then
    return { 0, report(false) }
end
redis.call('SADD', ASKED, user)
return { 1, report(false) }
