-- ARGV: now; then the runners. Answers with how many rows went back.
local returned = 0
for i = 2, #ARGV do
  local name = ARGV[i]
  local record = call('HGET', P .. 'runners', name) or call('HGET', P .. 'dying', name)
  if record then
    for _, id in ipairs(call('SMEMBERS', P .. 'own:' .. name)) do
      life.lose_owner(row.load(id), 'runner stopped')
      returned = returned + 1
    end
    forget(name, cmsgpack.unpack(record)[GROUP])
  end
end
react()
tell(0)
return returned
