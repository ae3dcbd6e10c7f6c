-- Answers how many users were in.
local users = redis.call('HLEN', STATUS)
if users == 0 then
    return { 0, report(false) }
end
forget()
return { users, report(true) }
