-- ARGV: now; then ids. Answers with id, call, state, progress and what it waits for, of each that exists.
local ids, answers = {}, {}
for i = 2, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
local definitions, states = fetch(P .. 'call', ids), fetch(P .. 'row', ids)
local progress = call('EXISTS', P .. 'progress') == 1 and fetch(P .. 'progress', ids) or {}
local has_knots = call('EXISTS', P .. 'knots') == 1
for i = 1, #ids do
  if definitions[i] then
    answers[#answers + 1] = {ids[i], definitions[i], states[i] or '', progress[i] or '', has_knots and call('SMEMBERS', P .. 'awaits:' .. ids[i]) or {}}
  end
end
return answers
