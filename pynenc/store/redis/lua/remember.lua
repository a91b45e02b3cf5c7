-- ARGV: now, scope, whether the first wins, who got on by this (or nothing); then key and value of each. Answers with what is stored now.
local name, is_once, keys = P .. 'val:' .. ARGV[2], ARGV[3] == '1', {}
if ARGV[4] ~= '' then
  --{any}
  local r = row.load(ARGV[4])
  if r and r.place == CLAIMED and (r.crashes > 0 or r.alone == 1) then
    r.crashes, r.alone = 0, 0
    row.save(r)
  end
end
for i = 5, #ARGV, 2 do
  call(is_once and 'HSETNX' or 'HSET', name, ARGV[i], ARGV[i + 1])
  keys[#keys + 1] = ARGV[i]
end
if #keys > 0 then
  scopes.note(ARGV[2])
end
return fetch(name, keys)
