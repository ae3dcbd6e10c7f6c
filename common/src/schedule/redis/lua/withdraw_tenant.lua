-- Returns the number of users that were withdrawn.
local users = redis.call('HLEN', STATUS)
if users == 0 then
    return { 0, report(false) }
end
forget()
return { users, report(true) }
