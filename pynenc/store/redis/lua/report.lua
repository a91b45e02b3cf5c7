-- ARGV: now, runner; then id, attempt and progress of each. Answers with the lost ids.
local runner, lost = ARGV[2], {}
for i = 3, #ARGV, 3 do
  local r = row.load(ARGV[i])
  if not r or r.place ~= CLAIMED or r.runner ~= runner or r.attempt ~= tonumber(ARGV[i + 1]) then
    lost[#lost + 1] = ARGV[i]
  else
    call('HSET', P .. 'progress', r.id, ARGV[i + 2])
  end
end
return lost
