-- ARGV: now; then ids. Answers with id, the beginning of its call, its state, and the steps that were kept, of each that exists.
local ids, answers = {}, {}
for i = 2, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
local states = fetch(P .. 'row', ids)
for i = 1, #ids do
  local definition = call('HGET', P .. 'call', ids[i])
  if definition then
    answers[#answers + 1] = {ids[i], sub(definition, 1, 16), states[i] or '', call('LRANGE', P .. 'hist:' .. ids[i], 0, -1)}
  end
end
return answers
