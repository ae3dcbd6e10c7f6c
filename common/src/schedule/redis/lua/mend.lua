-- Makes a tenant's keys consistent after one of them was lost.
-- ARGV: lifetime of a claim, minimum time between syncs. Returns the number of repairs.
-- A user who neither waits nor is claimed may still be worked on under a claim that was lost. Such users are
-- claimed anew, under tokens that no worker holds, and are due when those claims end.
local BATCH = 100
local now = clock()
local ends, stamp = whole(now + tonumber(ARGV[1])), now - tonumber(ARGV[2])
local mended = 0

local held = {}
local batches = redis.call('HGETALL', BATCHES)
for token = 1, #batches, 2 do
    for _, user in each(cmsgpack.unpack(batches[token + 1])) do
        held[user] = true
    end
    if not redis.call('ZSCORE', CLAIMED, batches[token]) then
        redis.call('ZADD', CLAIMED, ends, batches[token])
        mended = mended + 1
    end
end

local known = {}
for _, user in ipairs(redis.call('HKEYS', STATUS)) do
    known[user] = true
end

local records = {}
local function record(user)
    if not known[user] then
        known[user] = true
        mended = mended + 1
        records[#records + 1] = user
        records[#records + 1] = cmsgpack.pack({ 0, 0, 0, 0 })
    end
end

local waits, twice = {}, {}
for _, user in ipairs(redis.call('ZRANGE', DUE, 0, -1)) do
    waits[user] = true
    record(user)
    if held[user] then
        twice[#twice + 1] = user
    end
end
for user in pairs(held) do
    record(user)
end
call('ZREM', DUE, twice)
call('HSET', STATUS, records)
mended = mended + #twice

local token, batch = grown('token'), {}
local function claim()
    if #batch > 0 then
        redis.call('ZADD', CLAIMED, ends, whole(token))
        keep(whole(token), batch)
        token, batch = token + 1, {}
    end
end
for user in pairs(known) do
    if not waits[user] and not held[user] then
        mended = mended + 1
        -- A microsecond apart: equal scores are slow to keep in order.
        add(batch, user, whole(stamp + mended))
        if #batch == 2 * BATCH then
            claim()
        end
    end
end
claim()
redis.call('HSET', META, 'token', whole(token))
-- Users may have come back, so the digest is dropped and the leader recounts the names.
redis.call('HDEL', META, 'names')
redis.call('HINCRBY', META, 'membership', 1)
return { mended, report(true) }
