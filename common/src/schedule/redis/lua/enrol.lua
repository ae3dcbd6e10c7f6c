-- ARGV: user, stamp, last success or ''. Answers 1 when the user was not in.
local user, stamp, success = ARGV[1], ARGV[2], tonumber(ARGV[3]) or 0
if redis.call('HSETNX', STATUS, user, cmsgpack.pack({ 0, 0, 0, success })) == 0 then
    return { 0, report(false) }
end
redis.call('ZADD', DUE, stamp, user)
return { 1, report(true) }
