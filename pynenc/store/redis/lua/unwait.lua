-- ARGV: now, waiter, attempt; then what it does not wait for any more.
local w = row.load(ARGV[2])
if w and w.place == CLAIMED and w.attempt == tonumber(ARGV[3]) then
  for i = 4, #ARGV do
    edges.drop(w.id, ARGV[i])
  end
end
return 0
