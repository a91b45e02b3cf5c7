-- ARGV: now, scope, whether the first wins, who got on by this (or nothing), its attempt and runner; then key and value of each. Answers with what is stored now;
-- with nothing, and stores nothing, if that attempt does not own its invocation any more.
local name, is_once, keys = P .. 'val:' .. ARGV[2], ARGV[3] == '1', {}
if ARGV[4] ~= '' then
  --{any}
  local r = row.load(ARGV[4])
  if not r or r.place ~= CLAIMED or r.attempt ~= tonumber(ARGV[5]) or r.runner ~= ARGV[6] then
    return {}
  end
  if r.crashes > 0 or r.alone == 1 then
    r.crashes, r.alone = 0, 0
    row.save(r)
  end
end
for i = 7, #ARGV, 2 do
  call(is_once and 'HSETNX' or 'HSET', name, ARGV[i], ARGV[i + 1])
  keys[#keys + 1] = ARGV[i]
end
if #keys > 0 then
  scopes.note(ARGV[2])
end
return fetch(name, keys)
