-- ARGV: now; then ids. Answers with the states, nothing for who was never claimed; or with the name of one that does not exist.
local ids = {}
for i = 2, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
local states = fetch(P .. 'row', ids)
for i = 1, #ids do
  if not states[i] and call('HEXISTS', P .. 'call', ids[i]) == 0 then
    return ids[i]
  end
end
return states
