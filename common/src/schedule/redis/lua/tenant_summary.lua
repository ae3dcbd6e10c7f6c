-- ARGV: minimum time between syncs. Returns now, users due, oldest success of a sample, intervals, the oldest stamp
-- from which a wait counts; and the report.
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

-- A request moves a user ahead, but the wait counts from the request. So the oldest wait is that of one of the
-- requested users at the front, or of the first other user behind them. Reads at most MOST users.
local PAGE, MOST = 100, 1000
local function oldest_wait()
    local found = false
    for first = 0, MOST - 1, PAGE do
        local page = redis.call('ZRANGE', DUE, first, first + PAGE - 1, 'WITHSCORES')
        local users = {}
        for place = 1, #page, 2 do
            users[#users + 1] = page[place]
        end
        local requested = ask('HMGET', REQUESTED, users)
        for order = 1, #users do
            local stamp = tonumber(page[2 * order])
            local from = waits_from(stamp, requested[order])
            if not found or from < found then
                found = from
            end
            if from == stamp then
                return found
            end
        end
        if #users < PAGE then
            return found
        end
    end
    return found
end
return { { now, due, oldest, redis.call('LRANGE', INTERVALS, 0, -1), oldest_wait() }, report(false) }
