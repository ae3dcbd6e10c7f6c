-- Stores a tenant's report in the index, unless the index has a newer one.
-- KEYS: heads, tenants, expiries, failing, totals, intervals, mark.
-- ARGV: tenant, number, head, expiry, users, claimed, attempts, failing ('' for none), 1 for a claim,
-- intervals.
-- Returns the mark's number, which a claim increments, or false.
local HEADS, TENANTS, EXPIRIES, FAILING, TOTALS, INTERVALS, MARK = unpack(KEYS)
local SAMPLE = 1024
local tenant, number, users = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
local claimed, attempts = tonumber(ARGV[6]), tonumber(ARGV[7])
local mark = ARGV[9] == '1' and redis.call('HINCRBY', MARK, 'number', 1) or false

local known = redis.call('HGET', TENANTS, tenant)
local before = known and cmsgpack.unpack(known) or { 0, 0, 0, 0 }
if number < before[1] then
    return mark
end
local function place(key, score)
    if score == '' then
        redis.call('ZREM', key, tenant)
    else
        redis.call('ZADD', key, score, tenant)
    end
end
place(HEADS, ARGV[3])
place(EXPIRIES, ARGV[4])
place(FAILING, ARGV[8])
if users == 0 then
    redis.call('HDEL', TENANTS, tenant)
else
    redis.call('HSET', TENANTS, tenant, cmsgpack.pack({ number, users, claimed, attempts }))
end
if users ~= before[2] then
    redis.call('HINCRBY', TOTALS, 'users', users - before[2])
end
if claimed ~= before[3] then
    redis.call('HINCRBY', TOTALS, 'claimed', claimed - before[3])
end
if attempts > before[4] then
    redis.call('HINCRBY', TOTALS, 'attempts', attempts - before[4])
end
if number > before[1] and #ARGV > 9 then
    redis.call('LPUSH', INTERVALS, unpack(ARGV, 10, math.min(#ARGV, 9 + SAMPLE)))
    redis.call('LTRIM', INTERVALS, 0, SAMPLE - 1)
end
return mark
