-- ARGV: 1 to give the tenant a new change number.
-- Returns 1 if the tenant's keys are consistent, otherwise 0; the report; and the digest of its users' names,
-- if there is one.
-- The keys are consistent if every user waits or is claimed, and every claim has an expiry.
local held, endless = 0, false
local all = redis.call('HGETALL', BATCHES)
for token = 1, #all, 2 do
    held = held + #cmsgpack.unpack(all[token + 1]) / 2
    endless = endless or not redis.call('ZSCORE', CLAIMED, all[token])
end
local agrees = not endless and redis.call('HLEN', STATUS) == redis.call('ZCARD', DUE) + held
local names = redis.call('HGET', META, 'names')
return { agrees and 1 or 0, report(ARGV[1] == '1'), names and tonumber(names) }
