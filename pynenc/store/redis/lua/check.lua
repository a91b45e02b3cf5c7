-- ARGV: now, mode, then for ``rows`` a block; for ``index`` the name of a key and some of its members. Answers with problems; for ``rows`` also with what was
-- counted: by kind, queue of what is parked, and blob.
local problems = {}

local function expect_truth(truth, text)
  if not truth then
    problems[#problems + 1] = text
  end
end

-- The entries of indices that a row must have: name of the key → member and score (nil: a set).
local function entries(r)
  local m, key, found = row.meta(r), key_of(r), {}
  if r.place == READY then
    local name = sub(line.of(r), #P + 1)
    if r.rank == 0 and r.boost == 0 then
      found[name .. ':p'] = {r.id, r.seq}
    else
      found[name .. ':r'], found[name .. ':a'] = {line.member(r), -r.rank}, {r.id, r.seq}
    end
  elseif r.place == LATER then
    found['later:' .. r.queue] = {pack('>I6', r.seq) .. r.id, r.due}
  elseif r.place == WAITING then
    if r.due > 0 then
      found['asleep:' .. r.queue] = {pack('>I6', r.seq) .. r.id, r.due}
    end
    if call('EXISTS', P .. 'awaits:' .. r.id) == 1 then
      found['sleepers'] = {r.id}
    end
  elseif r.why == BEHIND_KEY then
    found['park:' .. key] = {line.member(r), -r.rank}
  elseif r.why == BEHIND_RATE then
    found['turn:' .. m.rate_key] = {line.member(r), -r.rank}
  elseif r.why == BEHIND_TASK then
    found['unknown:' .. r.task] = {r.id}
  elseif r.place == CLAIMED then
    found['own:' .. r.runner] = {r.id}
    if r.cancel == 1 then
      found['orders:' .. r.runner] = {r.id}
    end
    if m.running_key then
      found['use:' .. m.running_key] = {r.id}
    end
  elseif r.place == FINAL then
    if r.ttl > 0 then
      -- What is kept for its workflow gets another time.
      local at = tonumber(call('ZSCORE', P .. 'gone', r.id) or 0)
      found['gone'] = {r.id, math.max(at, r.ended + r.ttl)}
    end
    if r.status == SUCCESS and m.cache_key then
      found['cache:' .. m.cache_key] = {r.id, r.seq}
    end
  end
  if r.held == 1 then
    found['hold:' .. key] = {r.id}
  end
  if m.expires > 0 and r.attempt == 0 and r.round == 0 and r.place ~= FINAL then
    found['expiring'] = {r.id, m.expires}
  end
  return found
end

local function check_row(r)
  local m, key = row.meta(r), key_of(r)
  for name, entry in pairs(entries(r)) do
    local score = entry[2] and call('ZSCORE', P .. name, entry[1]) or (not entry[2] and call('SISMEMBER', P .. name, entry[1]) == 1)
    local is_early = name == 'expiring' and not score -- written by a build that had no such index: a claim ends it
    expect_truth(is_early or score and (score == true or tonumber(score) == entry[2]), r.id .. ' is missing in ' .. name .. ', or stands there with another score')
  end
  local is_head = m.rate_key and (r.place == READY or (r.place == LATER and call('HGET', P .. 'heads', m.rate_key) == r.id)) or false
  expect_truth((r.rated == 1) == is_head, r.id .. ' is wrongly the head of its rate, or not')
  expect_truth(not is_head or call('HGET', P .. 'heads', m.rate_key) == r.id, r.id .. ' goes next for its rate, but is not its head')
  local must_hold = key and (r.place == READY or r.place == CLAIMED or is_head or r.why == BEHIND_RATE) or false
  expect_truth((r.held == 1) == must_hold, r.id .. ' holds its running key without need, or runs without it')
  expect_truth((r.place == PARKED) == (r.why ~= 0), r.id .. ' is parked behind nothing, or stands behind something without being parked')
  expect_truth((r.runner ~= '') == (r.place == CLAIMED) or r.place == FINAL, r.id .. ' is claimed by nobody, or owned without being claimed')
  if r.place == CLAIMED then
    local is_known = call('HEXISTS', P .. 'runners', r.runner) + call('HEXISTS', P .. 'dying', r.runner) > 0
    expect_truth(is_known, r.id .. ' is owned by a runner that is gone')
  end
  expect_truth(r.rank >= r.priority or r.place == FINAL, r.id .. ' has a rank below its priority')
  if m.registration_key and r.attempt == 0 and r.round == 0 and r.place ~= FINAL then
    expect_truth(call('HGET', P .. 'reg', m.registration_key) == r.id, r.id .. ' does not hold its registration key')
  end
  for _, name in ipairs(m.blobs) do
    expect_truth(call('HEXISTS', P .. 'blob', name) == 1, r.id .. ' refers to blob ' .. name .. ', which is not there')
  end
  expect_truth(call('LLEN', P .. 'hist:' .. r.id) == r.entries, 'the history of ' .. r.id .. ' has gaps')
end

local function add(totals, name)
  totals[name] = (totals[name] or 0) + 1
end

local function flat(totals)
  local list = {}
  for name, n in pairs(totals) do
    list[#list + 1], list[#list + 2] = name, n
  end
  return list
end

local function check_block(block)
  local ids, kinds, parked, blobs, rows = call('LRANGE', P .. 'order:' .. block, 0, -1), {}, {}, {}, {}
  local states = fetch(P .. 'row', ids)
  for i = 1, #ids do
    local definition = call('HGET', P .. 'call', ids[i])
    if definition and unpacked('>I8', definition) == block * BLOCK + i then
      local r = row.of(ids[i], definition, states[i])
      check_row(r)
      add(kinds, pack('>BI2c0', r.status, #r.queue, r.queue) .. r.task)
      if r.place == PARKED then
        add(parked, r.queue)
      end
      for _, name in ipairs(row.meta(r).blobs) do
        add(blobs, name)
      end
      rows[#rows + 1] = r.id
    end
  end
  expect_truth(#ids - tonumber(call('HGET', P .. 'removed', block) or 0) == #rows, 'block ' .. block .. ' counts other rows than it has')
  return {problems, flat(kinds), flat(parked), flat(blobs), rows}
end

-- Where the id stands in a member, by the kind of index.
local function id_of(name, member)
  local kind = string.match(name, '^[^:]*')
  if kind == 'later' or kind == 'asleep' then
    return sub(member, 7)
  elseif kind == 'park' or kind == 'turn' or (#kind == 1 and sub(name, -2) == ':r') then
    return sub(member, 15)
  end
  return member
end

-- The members were read a moment ago: what has left since then is not looked at.
local function has_left(name, member)
  if call('TYPE', P .. name).ok == 'set' then
    return call('SISMEMBER', P .. name, member) == 0
  end
  return not call('ZSCORE', P .. name, member)
end

local function check_entry(name, member)
  if has_left(name, member) then
    return
  end
  local id = id_of(name, member)
  local r = row.load(id)
  local kind, rest = string.match(name, '^([^:]*):?(.*)$')
  if kind == 'awaits' then
    local waiter = row.load(rest)
    local is_sound = waiter and (waiter.place == CLAIMED or waiter.place == WAITING) and r and r.place ~= FINAL and r.rank >= waiter.rank
    expect_truth(is_sound, rest .. ' waits for ' .. id .. ', but one of them has ended, or its rank is too low')
    expect_truth(call('SISMEMBER', P .. 'waiters:' .. id, rest) == 1, 'only ' .. rest .. ' knows that it waits for ' .. id)
    expect_truth(call('SMISMEMBER', P .. 'knots', id, rest)[1] == 1, id .. ' is awaited, but no knot')
  elseif kind == 'waiters' then
    expect_truth(call('SISMEMBER', P .. 'awaits:' .. id, rest) == 1, 'only ' .. rest .. ' knows that ' .. id .. ' waits for it')
  else
    local entry = r and entries(r)[name]
    expect_truth(entry and entry[1] == member, id .. ' stands in ' .. name .. ' without reason')
  end
end

-- What must hold between indices.
local function check_key(name)
  local kind, key = string.match(name, '^([^:]*):(.*)$')
  if kind == 'park' then
    local first = call('ZRANGE', P .. name, 0, 0)[1]
    local m = first and row.meta(row.load(sub(first, 15)))
    expect_truth(not m or call('SCARD', P .. 'hold:' .. key) >= m.running_limit, 'somebody is parked while running key ' .. key .. ' has room')
  elseif kind == 'hold' then
    local most = 0
    for _, id in ipairs(call('SMEMBERS', P .. name)) do
      local r = row.load(id)
      most = r and math.max(most, row.meta(r).running_limit) or most
    end
    expect_truth(call('SCARD', P .. name) <= most, 'running key ' .. key .. ' is held by more than its limit')
  elseif kind == 'turn' then
    expect_truth(call('HEXISTS', P .. 'heads', key) == 1, 'somebody waits in line for rate ' .. key .. ', which has no head')
  end
end

if ARGV[2] == 'rows' then
  return check_block(tonumber(ARGV[3]))
end
for i = 4, #ARGV do
  check_entry(ARGV[3], ARGV[i])
end
check_key(ARGV[3])
return {problems}
