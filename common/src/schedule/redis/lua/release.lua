-- ARGV: token, how far ahead a requested user goes, minimum time between syncs, users. Returns the places of the
-- released users.
local users = rest(4)
local places, stamps = take(ARGV[1], users)
local back, released = {}, {}
for order, place in ipairs(places) do
    back[order] = users[place]
    released[order] = place - 1
end
give_back(back, stamps, clock() - tonumber(ARGV[2]), tonumber(ARGV[3]))
return { released, report(#back > 0) }
