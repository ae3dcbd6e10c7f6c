-- ARGV: 1 to give the tenant a new change number. Answers 1 when the tenant's keys agree with each other, otherwise 0, where
-- the tenant stands, and the digest of its users' names, if there is one. They agree when every user waits or is claimed, and every claim ends some time.
local held, endless = 0, false
local all = redis.call('HGETALL', BATCHES)
for token = 1, #all, 2 do
    held = held + #cmsgpack.unpack(all[token + 1]) / 2
    endless = endless or not redis.call('ZSCORE', CLAIMED, all[token])
end
local agrees = not endless and redis.call('HLEN', STATUS) == redis.call('ZCARD', DUE) + held
local names = redis.call('HGET', META, 'names')
return { agrees and 1 or 0, report(ARGV[1] == '1'), names and tonumber(names) }
