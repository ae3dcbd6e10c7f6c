-- What every script on one tenant's keys shares. All of them are in one slot; ARGV is each script's own.
local DUE, CLAIMED, HELD, STATUS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local META, FAILURES, FAILING, INTERVALS = KEYS[5], KEYS[6], KEYS[7], KEYS[8]

-- unpack fails near 8,000 values.
local CHUNK = 1000

-- Microseconds of this server's clock.
local function clock()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Calls a command with a list of any length, a part at a time.
local function call(name, key, list)
    for first = 1, #list, CHUNK do
        redis.call(name, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
    end
end

-- As above for commands that answer with one value per name.
local function ask(name, key, names)
    local answers = {}
    for first = 1, #names, CHUNK do
        local last = math.min(first + CHUNK - 1, #names)
        local part = redis.call(name, key, unpack(names, first, last))
        for place = 1, last - first + 1 do
            answers[first + place - 1] = part[place]
        end
    end
    return answers
end

-- The values of ARGV from `first` on.
local function rest(first)
    local list = {}
    for place = first, #ARGV do
        list[#list + 1] = ARGV[place]
    end
    return list
end

-- Numbers grow for ever, also when everything was lost: the time is ahead of every number given before.
local function grown(field)
    return math.max(tonumber(redis.call('HGET', META, field) or '0') + 1, clock())
end

local function first_score(key)
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return first[2] and tonumber(first[2]) or false
end

-- Where the tenant stands, for the index of tenants: change number, oldest stamp, earliest expiry, users, claimed users,
-- attempts, oldest success of those whose last attempt failed. A tenant that nobody is left of leaves no key behind. One
-- that was found without users has the number 0: its data may be lost, which the index must not take for a withdrawal.
local function report(changed)
    local claimed = redis.call('ZCARD', CLAIMED)
    local users = redis.call('ZCARD', DUE) + claimed
    if users == 0 then
        local number = 0
        if changed then
            number = grown('number')
            redis.call('UNLINK', unpack(KEYS, 1, 8))
        end
        return { number, false, false, 0, 0, 0, false }
    end
    local number
    if changed then
        number = grown('number')
        redis.call('HSET', META, 'number', string.format('%.0f', number))
    else
        number = tonumber(redis.call('HGET', META, 'number') or '0')
    end
    local attempts = tonumber(redis.call('HGET', META, 'attempts') or '0')
    return { number, first_score(DUE), first_score(CLAIMED), users, claimed, attempts, first_score(FAILING) }
end

-- A user's record: idle cycles, failures in a row, last attempt, last success; 0 is never, success -1 is the last attempt.
local function record(packed)
    if not packed then
        return 0, 0, 0, 0
    end
    local fields = cmsgpack.unpack(packed)
    local success = fields[4]
    if success == -1 then
        success = fields[3]
    end
    return fields[1], fields[2], fields[3], success
end

-- Ends claims: `stamps` and `users` go back into the order.
local function give_back(users, stamps)
    local due = {}
    for place, user in ipairs(users) do
        due[#due + 1] = stamps[place]
        due[#due + 1] = user
    end
    call('ZREM', CLAIMED, users)
    call('HDEL', HELD, users)
    call('ZADD', DUE, due)
end
