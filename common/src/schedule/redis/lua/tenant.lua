-- Functions shared by all scripts on one tenant's keys, which are in one slot. ARGV differs between the
-- scripts.
local DUE, CLAIMED, BATCHES, STATUS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local META, FAILURES, FAILING, INTERVALS, ASKED = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local REQUESTED = KEYS[10]
local OWN_KEYS = 10

-- unpack fails at about 8,000 values.
local CHUNK = 1000

-- Returns the time of this server's clock in microseconds.
local function clock()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Returns a whole number as text. Redis would format a number argument as a fraction of 17 digits, which
-- takes three times as long.
local function whole(number)
    return string.format('%d', number)
end

-- Calls a command with a list of any length, in parts.
local function call(name, key, list)
    for first = 1, #list, CHUNK do
        redis.call(name, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
    end
end

-- The same for commands that answer with one value per name; returns the values.
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

-- Returns the values of ARGV from `first` on.
local function rest(first)
    local list = {}
    for place = first, #ARGV do
        list[#list + 1] = ARGV[place]
    end
    return list
end

-- Returns the next value of a number that never repeats, even if all data were lost: the time exceeds every
-- number given before.
local function grown(field)
    return math.max(tonumber(redis.call('HGET', META, field) or '0') + 1, clock())
end

local function first_score(key)
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return first[2] and tonumber(first[2]) or false
end

-- Adds to the digest of the tenant's names, which the leader compares with that of the registry. `membership`
-- grows with every change, so that a recount notices concurrent changes.
local NAMES_MODULUS = 281474976710656
local function add_to_names(part)
    redis.call('HINCRBY', META, 'membership', 1)
    local known = redis.call('HGET', META, 'names')
    if known then
        redis.call('HSET', META, 'names', whole((tonumber(known) + part) % NAMES_MODULUS))
    end
end

-- Removes every key of the tenant.
local function forget()
    redis.call('UNLINK', unpack(KEYS, 1, OWN_KEYS))
end

-- Returns the tenant's report for the index of tenants: change number, oldest stamp, earliest expiry, users,
-- claimed users, attempts, oldest success of the users whose last attempt failed. A tenant without users
-- leaves no key behind. The number is 0 if nothing is known: no user was found and nothing was changed, or
-- the users' records are gone while users still wait or are claimed. The index must not take a loss for a
-- withdrawal.
local function report(changed)
    local users = redis.call('HLEN', STATUS)
    if users == 0 then
        local number = 0
        if changed and redis.call('EXISTS', DUE, BATCHES) == 0 then
            number = grown('number')
            forget()
        end
        return { number, false, false, 0, 0, 0, false }
    end
    local number
    if changed then
        number = grown('number')
        redis.call('HSET', META, 'number', whole(number))
    else
        number = tonumber(redis.call('HGET', META, 'number') or '0')
    end
    local attempts = tonumber(redis.call('HGET', META, 'attempts') or '0')
    local claimed = users - redis.call('ZCARD', DUE)
    return { number, first_score(DUE), first_score(CLAIMED), users, claimed, attempts, first_score(FAILING) }
end

-- Returns the time of the last success in a user's record; 0 for never. A record is idle cycles, failures in
-- a row, last attempt (0: never), last success (-1: the last attempt). The Rust code reads and writes it,
-- too.
local function success_of(packed)
    if not packed then
        return 0
    end
    local fields = cmsgpack.unpack(packed)
    return fields[4] == -1 and fields[3] or fields[4]
end

-- Returns the batch under a token: users and the stamps to which they are released, alternately.
local function batch_of(token)
    local packed = redis.call('HGET', BATCHES, token)
    return packed and cmsgpack.unpack(packed) or {}
end

-- One step of a walk over a batch; `for _, user, stamp in each(batch)`. The first value is the user's place.
local function after(batch, place)
    place = place + 2
    local user = batch[place]
    if user then
        return place, user, batch[place + 1]
    end
end

local function each(batch)
    return after, batch, -1
end

-- Appends a user to a batch.
local function add(batch, user, stamp)
    batch[#batch + 1] = user
    batch[#batch + 1] = stamp
end

-- Saves what is left of a batch.
local function keep(token, batch)
    if #batch == 0 then
        redis.call('HDEL', BATCHES, token)
        redis.call('ZREM', CLAIMED, token)
    else
        redis.call('HSET', BATCHES, token, cmsgpack.pack(batch))
    end
end

-- Ends the claims of those of the users who are held under the token. Returns their places and the stamps to
-- which they are released.
local function take(token, users)
    local batch = batch_of(token)
    local stamps = {}
    for _, user, stamp in each(batch) do
        stamps[user] = stamp
    end
    local places, back = {}, {}
    for place, user in ipairs(users) do
        local stamp = stamps[user]
        if stamp then
            stamps[user] = nil
            places[#places + 1] = place
            back[#back + 1] = stamp
        end
    end
    if #places > 0 then
        local left = {}
        for _, user, stamp in each(batch) do
            if stamps[user] then
                add(left, user, stamp)
            end
        end
        keep(token, left)
    end
    return places, back
end

-- Returns the token, the batch and the place in it of a claimed user. It reads all batches, so it is for
-- single users, not for those of a job.
local function claim_of(user)
    local all = redis.call('HGETALL', BATCHES)
    for token = 1, #all, 2 do
        local batch = cmsgpack.unpack(all[token + 1])
        for place, claimed in each(batch) do
            if claimed == user then
                return all[token], batch, place
            end
        end
    end
end

-- An entry of REQUESTED: the stamp to which a request moved a user ahead, and the stamp from which the user's
-- wait counts. It is valid while the user has the first stamp.
local function requested_entry(ahead, from)
    return whole(ahead) .. ' ' .. whole(from)
end

-- Returns the stamp from which the wait of a user with this stamp and entry counts.
local function waits_from(stamp, entry)
    if entry then
        local ahead, from = string.match(entry, '^(%-?%d+) (%-?%d+)$')
        if tonumber(ahead) == tonumber(stamp) then
            return tonumber(from)
        end
    end
    return tonumber(stamp)
end

-- Puts users whose claims ended back into the order. Users who were requested meanwhile get a stamp not after
-- `ahead`; they wait since they were due, at most since now. `minimum` is the minimum time between syncs.
local function give_back(users, stamps, ahead, minimum)
    local asked = redis.call('EXISTS', ASKED) == 1 and ask('SMISMEMBER', ASKED, users)
    if asked then
        call('SREM', ASKED, users)
    end
    local due, requested, due_now = {}, {}, clock() - minimum
    for place, user in ipairs(users) do
        local stamp = stamps[place]
        if asked and asked[place] == 1 and tonumber(stamp) > ahead then
            requested[#requested + 1] = user
            requested[#requested + 1] = requested_entry(ahead, math.min(tonumber(stamp), due_now))
            stamp = whole(ahead)
        end
        due[#due + 1] = stamp
        due[#due + 1] = user
    end
    call('ZADD', DUE, due)
    call('HSET', REQUESTED, requested)
end
