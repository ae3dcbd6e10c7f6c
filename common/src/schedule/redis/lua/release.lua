-- ARGV: token, how far ahead a user asked for goes, users. Answers the places of those given back.
local token, ahead = tonumber(ARGV[1]), clock() - tonumber(ARGV[2])
local users = rest(3)
local held = ask('HMGET', HELD, users)
local released, back, stamps, seen = {}, {}, {}, {}
for place, user in ipairs(users) do
    local claim = held[place] and cmsgpack.unpack(held[place])
    if claim and claim[1] == token and not seen[user] then
        seen[user] = true
        released[#released + 1] = place - 1
        back[#back + 1] = user
        stamps[#stamps + 1] = claim[3] == 1 and math.min(claim[2], ahead) or claim[2]
    end
end
give_back(back, stamps)
return { released, report(#back > 0) }
