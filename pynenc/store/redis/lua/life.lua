-- What happens to one row: it is admitted, parked, let go, given back, ended. Theory of operation:
--
-- A row that is not final, owned or suspended waits for up to three things, in this order: its time (``due``), a place of its running key, its
-- turn in the line of its rate. ``settle`` finds where it stands. ``held`` says that it has a place of its key (it is in hold:<key> then),
-- ``rated`` that it is the head of its rate. So the slots of a key are the rows that hold it: whoever leaves gives both up in ``let_go``,
-- which lets the next ones go in the same script.
local life = {}

-- History ---------------------------------------------------------------------------------------------------------------
local function step(status, at, runner, r, reason, payload)
  local text = cmsgpack.pack({status, at, runner, r.attempt, r.round, reason})
  return pack('>I4', #text) .. text .. payload
end

-- The entries that follow from the row itself; see codec.py, which derives the same.
local function derived(r)
  local found = {}
  if r.entries == 0 then
    found[1] = step(REGISTERED, r.created, '', {attempt = 0, round = 0}, '', '')
    if r.place == PARKED then
      found[2] = step(PARKED_STATUS, r.created, '', {attempt = 0, round = 0}, r.reason, '')
    end
  end
  if r.place == CLAIMED or (r.place == FINAL and r.runner ~= '') then
    found[#found + 1] = step(PENDING, r.claimed, r.runner, r, '', '')
    if r.started > 0 then
      found[#found + 1] = step(RUNNING, r.started, r.runner, r, '', '')
    end
  end
  if r.place == FINAL then
    found[#found + 1] = step(r.status, r.ended, r.runner, r, r.reason, r.payload)
  end
  return found
end

-- Keeps what the row is about to forget, and one entry after it. To be called before the row changes.
function life.log(r, status, runner, reason, payload)
  local steps = derived(r)
  if status then
    steps[#steps + 1] = step(status, now, runner, r, reason, payload)
  end
  if #steps > 0 then
    call('RPUSH', P .. 'hist:' .. r.id, unpack(steps))
    r.entries = r.entries + #steps
  end
end

-- On the way to being claimable -------------------------------------------------------------------------------------------
local function timer(r)
  return pack('>I6', r.seq) .. r.id
end

-- Sets a row aside. A fresh one tells by itself that it was parked as it was submitted.
local function park(r, why, reason)
  if r.status ~= PARKED_STATUS then
    if not (r.entries == 0 and r.attempt == 0 and r.created == now) then
      life.log(r, PARKED_STATUS, '', reason, '')
    end
    r.status, r.reason = PARKED_STATUS, reason
  end
  if r.why == 0 then
    call('HINCRBY', P .. 'parked', r.queue, 1)
  end
  r.place, r.why = PARKED, why
end

-- A row that was set aside goes on with the status that it had.
local function unpark(r)
  if r.status == PARKED_STATUS then
    life.log(r, r.back, '', '', '')
    r.status, r.reason = r.back, ''
  end
  if r.why ~= 0 then
    r.why = 0
    call('HINCRBY', P .. 'parked', r.queue, -1)
  end
end

-- When its rate lets a row be claimed.
local function opens(m)
  local log = P .. 'rate:' .. m.rate_key
  local nth = call('LINDEX', log, -m.rate_n)
  if not nth then
    return 0
  end
  -- Claims of a clock that has been set back since lie in the future; nobody waits longer than a period.
  return math.min(tonumber(nth), now) + m.rate_period
end

local function put_later(r, due)
  r.place, r.due = LATER, due
  call('ZADD', P .. 'later:' .. r.queue, due, timer(r))
  stir(r.queue, 1) -- whoever sleeps until a later time must know
end

-- Finds the place of a row that is due: READY, or LATER or PARKED for its key or rate. The row has left its place, and is saved.
local function settle(r)
  local m, key = has(r, KEYED) and row.meta(r) or nil, key_of(r)
  if key and r.held == 0 then
    if call('SCARD', P .. 'hold:' .. key) >= m.running_limit then
      park(r, BEHIND_KEY, '')
      call('ZADD', P .. 'park:' .. key, -r.rank, line.member(r))
      return row.save(r)
    end
    call('SADD', P .. 'hold:' .. key, r.id)
    r.held = 1
  end
  if m and m.rate_key then
    if r.rated == 0 and call('HEXISTS', P .. 'heads', m.rate_key) == 1 then
      park(r, BEHIND_RATE, '')
      call('ZADD', P .. 'turn:' .. m.rate_key, -r.rank, line.member(r))
      return row.save(r)
    end
    r.rated = 1
    call('HSET', P .. 'heads', m.rate_key, r.id)
    local at = opens(m)
    if at > now then
      unpark(r)
      put_later(r, at)
      return row.save(r)
    end
  end
  unpark(r)
  r.place = READY
  line.join(r)
  stir(r.queue, 1)
  row.save(r)
end

-- Lets a row that has left its place wait for its time, or settle at once. Its status is ``status`` already, unless it is parked. Saves it.
function life.admit(r, status)
  r.back = status
  if r.due > now then
    put_later(r, r.due)
    row.save(r)
  else
    settle(r)
  end
end

-- Admits what has waited for its time; a bounded number, and whether there may be more.
function life.admit_due(queue)
  local found = call('ZRANGEBYSCORE', P .. 'later:' .. queue, '-inf', now, 'LIMIT', 0, 1000)
  for _, member in ipairs(found) do
    local r = row.load(sub(member, 7))
    call('ZREM', P .. 'later:' .. queue, member)
    settle(r)
  end
  local asleep = call('ZRANGEBYSCORE', P .. 'asleep:' .. queue, '-inf', now, 'LIMIT', 0, 1000)
  for _, member in ipairs(asleep) do
    life.rouse(row.load(sub(member, 7)), 'its time has come')
  end
end

-- Leaving -----------------------------------------------------------------------------------------------------------------
-- Takes a row out of the place where it is; what it holds is still held. Its place is WAITING then.
function life.leave(r)
  if r.place == CLAIMED then
    call('SREM', P .. 'own:' .. r.runner, r.id)
    if r.cancel == 1 then
      call('SREM', P .. 'orders:' .. r.runner, r.id)
    end
    if has(r, KEYED) and row.meta(r).running_key then
      call('SREM', P .. 'use:' .. row.meta(r).running_key, r.id)
    end
  elseif r.place == READY then
    line.leave(r)
  elseif r.place == LATER then
    call('ZREM', P .. 'later:' .. r.queue, timer(r))
  elseif r.place == PARKED then
    life.unline(r)
  elseif r.place == WAITING then
    if r.due > 0 then
      call('ZREM', P .. 'asleep:' .. r.queue, timer(r))
    end
    call('SREM', P .. 'sleepers', r.id)
  elseif r.place == FINAL and r.ttl > 0 then
    call('ZREM', P .. 'gone', r.id)
  end
end

-- Takes a parked row out of the line in which it waits; it counts as parked until ``unpark``.
function life.unline(r)
  if r.why == BEHIND_KEY then
    call('ZREM', P .. 'park:' .. key_of(r), line.member(r))
  elseif r.why == BEHIND_RATE then
    call('ZREM', P .. 'turn:' .. row.meta(r).rate_key, line.member(r))
  elseif r.why == BEHIND_TASK then
    call('SREM', P .. 'unknown:' .. r.task, r.id)
    if call('EXISTS', P .. 'unknown:' .. r.task) == 0 then
      call('SREM', P .. 'unknown', r.task)
    end
  end
end

-- Makes those that wait for a running key go on while it has places.
local function next_of_key(key)
  while true do
    local waiting = call('ZRANGE', P .. 'park:' .. key, 0, 0)[1]
    if not waiting then
      return
    end
    local r = row.load(sub(waiting, 15))
    if call('SCARD', P .. 'hold:' .. key) >= row.meta(r).running_limit then
      return
    end
    call('ZREM', P .. 'park:' .. key, waiting)
    settle(r)
  end
end

-- The next one in the line of a rate becomes its head.
local function next_of_rate(key)
  local waiting = call('ZRANGE', P .. 'turn:' .. key, 0, 0)[1]
  if waiting then
    call('ZREM', P .. 'turn:' .. key, waiting)
    settle(row.load(sub(waiting, 15)))
  end
end

-- A row that has left its place gives up what it held, and the next ones go on. The row is saved with its new place before.
function life.let_go(r)
  local held, rated = r.held == 1, r.rated == 1
  r.held, r.rated = 0, 0
  row.save(r)
  if held then
    local key = key_of(r)
    call('SREM', P .. 'hold:' .. key, r.id)
    next_of_key(key)
  end
  if rated then
    local key = row.meta(r).rate_key
    call('HDEL', P .. 'heads', key)
    next_of_rate(key)
  end
end

-- The head of a rate was claimed; it is saved.
local function spend(r, m)
  local log = P .. 'rate:' .. m.rate_key
  local period = math.max(m.rate_period, tonumber(call('GET', P .. 'period:' .. m.rate_key) or 0))
  call('SADD', P .. 'rates', m.rate_key)
  call('SET', P .. 'period:' .. m.rate_key, string.format('%.0f', period))
  call('RPUSH', log, string.format('%.0f', now))
  while call('LLEN', log) > m.rate_n and tonumber(call('LINDEX', log, 0)) + period <= now do
    call('LPOP', log)
  end
end

function life.forget_claim(r, rate)
  call('LREM', P .. 'rate:' .. rate, -1, string.format('%.0f', r.claimed))
end

-- A claim of a rate was given back unused: ``r`` goes before the head, if it waits for that; whoever is the head may go earlier.
function life.go_first(r, rate)
  local id = call('HGET', P .. 'heads', rate)
  if not id or id == r.id then
    return
  end
  local head = row.load(id)
  life.leave(head)
  if r.why == BEHIND_RATE then
    head.rated = 0
    call('HDEL', P .. 'heads', rate)
    park(head, BEHIND_RATE, '')
    call('ZADD', P .. 'turn:' .. rate, -head.rank, line.member(head))
    row.save(head)
    life.unline(r)
    head = r
  end
  settle(head)
end

-- The end ------------------------------------------------------------------------------------------------------------------------
-- What ends with its first claim, or before: its registration, and its expiry.
local function unregister(r)
  local m = has(r, FIRST) and row.meta(r)
  local key = m and m.registration_key
  if key and call('HGET', P .. 'reg', key) == r.id then
    call('HDEL', P .. 'reg', key)
  end
  if m and m.expires > 0 and r.attempt == 0 and r.round == 0 then
    call('ZREM', P .. 'expiring', r.id)
  end
end
life.unregister = unregister

-- There may be a reaction to this change.
local function note(r, status)
  changes[#changes + 1] = {r.task, status, r.id, r.round, r.attempt}
end

-- A row becomes final, wherever it is.
function life.finish(r, status, reason, payload, at)
  if r.place == PARKED and r.entries == 0 then
    life.log(r)
  end
  life.leave(r)
  if r.place ~= CLAIMED then
    r.runner = ''
  end
  if r.why ~= 0 then
    r.why = 0
    call('HINCRBY', P .. 'parked', r.queue, -1)
  end
  r.status, r.place, r.reason, r.payload, r.ended = status, FINAL, reason, payload, at > 0 and math.min(at, now) or now
  r.seen = -1
  note(r, status)
  unregister(r)
  if r.ttl > 0 then
    call('ZADD', P .. 'gone', r.ended + r.ttl, r.id)
  end
  if status == SUCCESS and has(r, CACHED) then
    call('ZADD', P .. 'cache:' .. row.meta(r).cache_key, r.seq, r.id)
  end
  life.let_go(r)
  life.rouse_all(edges.end_of(r.id, true))
  ended[#ended + 1] = {r.id, row.encoded(r)}
end

-- The attempt of a claimed row ends without a final status: it is admitted again, suspended, or parked until its task is known. ``o`` is the outcome.
function life.give_back(r, o, payload, is_unknown)
  local status, reason, due = o.status, o.reason, o.due
  life.log(r, status, r.runner, reason, payload)
  if status ~= REGISTERED then
    note(r, status)
  end
  life.leave(r)
  call('HDEL', P .. 'progress', r.id)
  r.status, r.place, r.reason = status, WAITING, reason
  r.runner, r.due, r.started = '', due, 0
  life.let_go(r)
  edges.end_of(r.id, false)
  if is_unknown then
    r.back = status
    park(r, BEHIND_TASK, reason)
    call('SADD', P .. 'unknown', r.task)
    call('SADD', P .. 'unknown:' .. r.task, r.id)
    row.save(r)
  elseif status == PAUSED then
    life.suspend(r, o)
  else
    if o.args then
      life.renew(r, o)
    end
    life.admit(r, status)
  end
end

-- Those of some ids that are not final, and whether others are.
local function pending_of(ids)
  local pending, is_over, seen = {}, false, {}
  for _, id in ipairs(ids) do
    local r = not seen[id] and row.load(id)
    if r and r.place ~= FINAL then
      pending[#pending + 1] = id
    end
    is_over = is_over or not (seen[id] or (r and r.place ~= FINAL))
    seen[id] = true
  end
  return pending, is_over
end

-- Keeps a row that has left PAUSED, until what it waits for is there; that may be now.
function life.suspend(r, o)
  if r.due > 0 then
    call('ZADD', P .. 'asleep:' .. r.queue, r.due, timer(r))
    stir(r.queue, 1)
  end
  local pending, is_over = pending_of(o.awaits or {})
  is_over = is_over or (o.signals or -1) > -1 and o.signals < r.signalled
  for _, id in ipairs(is_over and {} or pending) do
    is_over = is_over or circle(r.id, id, true) ~= nil
  end
  if is_over then
    return life.rouse(r, '')
  end
  r.seen = o.signals or -1
  row.save(r)
  if #pending > 0 then
    edges.add(r.id, pending)
    call('SADD', P .. 'sleepers', r.id)
    life.lift(pending, r.rank, now)
  end
end

-- Admits a suspended row: what it waits for is there, or somebody wants it to go on.
function life.rouse(r, reason)
  life.log(r, REGISTERED, '', reason, '')
  life.leave(r)
  edges.end_of(r.id, false)
  r.status, r.due, r.seen = REGISTERED, 0, -1
  life.admit(r, REGISTERED)
end

-- Admits the suspended rows of some ids, in their order.
function life.rouse_all(ids)
  for _, r in ipairs(row.sorted(ids)) do
    life.rouse(r, 'what it waited for has ended')
  end
end

-- Counts a new round; what was remembered in the old one goes.
local function next_round(r)
  scopes.drop(r.id, string.format('%s/%d', r.id, r.round))
  r.round, r.retries, r.crashes, r.started = r.round + 1, 0, 0, 0
end

-- A row continues as new: a new round with other arguments.
function life.renew(r, o)
  for _, key in ipairs(o.blobs) do
    blob.refer(key)
  end
  for _, key in ipairs(row.meta(r).blobs) do
    blob.drop(key)
  end
  row.redefine(r, o.args, o.blobs)
  next_round(r)
  scopes.forget_used(r.id, o.signals)
end

-- The runner of a claimed row is gone: it goes back, or ends where that was asked for. Its status then.
function life.lose_owner(r, reason)
  if r.cancel == 1 then
    life.finish(r, CANCELLED, r.reason, '', 0)
    return CANCELLED
  end
  life.give_back(r, {status = REGISTERED, reason = reason, due = 0}, '', false)
  return r.place == FINAL and r.status or REGISTERED
end

-- A final row begins a new round.
function life.reopen(r, reason)
  if r.status == SUCCESS and has(r, CACHED) then
    call('ZREM', P .. 'cache:' .. row.meta(r).cache_key, r.id)
  end
  life.log(r)
  life.leave(r)
  next_round(r)
  r.place = WAITING
  life.log(r, REGISTERED, '', reason, '')
  r.status = REGISTERED
  r.alone, r.cancel, r.ended, r.due = 0, 0, 0, 0
  r.runner, r.payload, r.reason = '', '', reason
  call('HDEL', P .. 'progress', r.id)
  life.admit(r, REGISTERED)
end

-- A parked row whose task is known now.
function life.unknown_no_more(r)
  life.unline(r)
  r.due, r.reason = 0, ''
  settle(r)
end

-- Claims -------------------------------------------------------------------------------------------------------------------------
-- Makes a READY row, which has left its line, PENDING; false when it has ended instead.
function life.take(r, runner)
  local m = (has(r, KEYED) or has(r, FIRST)) and row.meta(r) or nil
  if m and r.attempt == 0 and r.round == 0 and m.expires > 0 and m.expires <= now then
    life.finish(r, CANCELLED, 'expired', '', 0)
    return false
  end
  local key = m and m.running_key
  if key and m.drop_blocked and call('SCARD', P .. 'use:' .. key) >= m.running_limit then
    life.finish(r, DROPPED, 'its running key was held', '', 0)
    return false
  end
  if m then
    unregister(r)
  end
  if key then
    call('SADD', P .. 'use:' .. key, r.id)
  end
  r.place, r.status, r.runner, r.claimed, r.attempt, r.started = CLAIMED, PENDING, runner, now, r.attempt + 1, 0
  r.reason = ''
  call('SADD', P .. 'own:' .. runner, r.id)
  if r.rated == 1 then
    r.rated = 0
    row.save(r)
    spend(r, m)
    call('HDEL', P .. 'heads', m.rate_key)
    next_of_rate(m.rate_key)
  else
    row.save(r)
  end
  return true
end

-- Rank ---------------------------------------------------------------------------------------------------------------------------
-- Changes rank and boost of a row; it takes its new place in its line.
local function reorder(r, rank, boost)
  if rank == r.rank and boost == r.boost then
    return
  end
  local place, why = r.place, r.why
  if place == READY then
    line.leave(r)
  elseif place == PARKED and why ~= BEHIND_TASK then
    life.unline(r)
  end
  r.rank, r.boost = rank, boost
  if place == READY then
    line.join(r)
  elseif place == PARKED and why == BEHIND_KEY then
    call('ZADD', P .. 'park:' .. key_of(r), -r.rank, line.member(r))
  elseif place == PARKED and why == BEHIND_RATE then
    call('ZADD', P .. 'turn:' .. row.meta(r).rate_key, -r.rank, line.member(r))
  end
  row.save(r)
end
life.reorder = reorder

-- Raises ids and all that they wait for to a rank at least, with a new boost if one is given.
function life.lift(ids, rank, boost)
  local seen, stack = {}, {}
  for i = #ids, 1, -1 do
    stack[#stack + 1] = {ids[i], rank}
  end
  while #stack > 0 do
    local id, least = unpack(table.remove(stack))
    local r = row.load(id)
    if r and r.place ~= FINAL and not (seen[id] and least <= r.rank) then
      seen[id] = true
      reorder(r, math.max(r.rank, least), boost or r.boost)
      for _, awaited in ipairs(call('SMEMBERS', P .. 'awaits:' .. id)) do
        stack[#stack + 1] = {awaited, r.rank}
      end
    end
  end
end
