-- ARGV: now, scope, whether the first wins; then key and value of each. Answers with what is stored now.
local name, is_once, keys = P .. 'val:' .. ARGV[2], ARGV[3] == '1', {}
for i = 4, #ARGV, 2 do
  call(is_once and 'HSETNX' or 'HSET', name, ARGV[i], ARGV[i + 1])
  keys[#keys + 1] = ARGV[i]
end
call('SADD', P .. 'scopes', ARGV[2])
return fetch(name, keys)
