-- ARGV: now, runner, when; then id and attempt of each. Answers with the lost ids.
local runner, at, lost = ARGV[2], tonumber(ARGV[3]), {}
for i = 4, #ARGV, 2 do
  local r = row.load(ARGV[i])
  if not r or r.place ~= CLAIMED or r.runner ~= runner or r.attempt ~= tonumber(ARGV[i + 1]) then
    lost[#lost + 1] = ARGV[i]
  elseif r.status == PENDING then
    r.status, r.started = RUNNING, at
    row.save(r)
  end
end
tell(0)
return lost
