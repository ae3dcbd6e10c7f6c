-- ARGV: minimum time between syncs. Returns now, users due, oldest success of a sample, intervals; and the
-- report.
-- The sample consists of the users that waited longest, those claimed longest, and the one that fails
-- longest. A user whose last attempt succeeded has a stamp at most some minutes after it, so the oldest
-- success is in the sample or close to one in it.
local SAMPLE = 32
local now = clock()
local sample = redis.call('ZRANGE', DUE, 0, SAMPLE - 1)
local most = #sample + SAMPLE
for _, token in ipairs(redis.call('ZRANGE', CLAIMED, 0, SAMPLE - 1)) do
    for _, user in each(batch_of(token)) do
        if #sample == most then
            break
        end
        sample[#sample + 1] = user
    end
end
local oldest = first_score(FAILING)
for _, packed in ipairs(ask('HMGET', STATUS, sample)) do
    local success = success_of(packed)
    if success > 0 and (not oldest or success < oldest) then
        oldest = success
    end
end
local due = redis.call('ZCOUNT', DUE, '-inf', now - tonumber(ARGV[1]))
return { { now, due, oldest, redis.call('LRANGE', INTERVALS, 0, -1) }, report(false) }
