-- Answers how many users were in.
local users = redis.call('ZCARD', DUE) + redis.call('ZCARD', CLAIMED)
if users == 0 then
    return { 0, report(false) }
end
local number = grown('number')
redis.call('UNLINK', unpack(KEYS, 1, 8))
return { users, { number, false, false, 0, 0, 0, false } }
