-- KEYS: heads, tenants, failing, totals, intervals.
-- Returns now, tenants, users, claimed, attempts, oldest head, oldest success of users whose last attempt
-- failed, intervals.
local time = redis.call('TIME')
local function first(key)
    local found = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return found[2] and tonumber(found[2]) or false
end
local totals = redis.call('HMGET', KEYS[4], 'users', 'claimed', 'attempts')
return {
    tonumber(time[1]) * 1000000 + tonumber(time[2]), redis.call('HLEN', KEYS[2]),
    tonumber(totals[1] or '0'), tonumber(totals[2] or '0'), tonumber(totals[3] or '0'),
    first(KEYS[1]), first(KEYS[3]), redis.call('LRANGE', KEYS[5], 0, -1),
}
