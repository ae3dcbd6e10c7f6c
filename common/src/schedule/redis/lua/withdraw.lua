-- ARGV: user. Answers 1 when the user was in.
local user = ARGV[1]
if redis.call('HDEL', STATUS, user) == 0 then
    return { 0, report(false) }
end
redis.call('ZREM', DUE, user)
redis.call('ZREM', CLAIMED, user)
redis.call('HDEL', HELD, user)
redis.call('HDEL', FAILURES, user)
redis.call('ZREM', FAILING, user)
return { 1, report(true) }
