-- ARGV: token, how far ahead a requested user goes, users. Returns the places of the released users.
local users = rest(3)
local places, stamps = take(ARGV[1], users)
local back, released = {}, {}
for order, place in ipairs(places) do
    back[order] = users[place]
    released[order] = place - 1
end
give_back(back, stamps, clock() - tonumber(ARGV[2]))
return { released, report(#back > 0) }
