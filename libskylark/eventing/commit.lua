-- Stores one batch of a dispatcher's writes; Redis runs it whole or not at all.
--
-- KEYS 1 broker:events        stream  entries with deliveries outstanding; group "dispatchers" says whose they are
--      2 broker:journal       stream  field record: one JSON object (see journal.py)
--      3 broker:done          hash    "<entry id> <trigger>" of entries that other triggers still wait for
--      4 broker:dead-letters  stream  events that nobody took
--      5 broker:dispatchers   hash    name -> "<session> <last batch stored>"
--      6 broker:ticks         hash    PingSource -> planned time of its last tick, Unix ms
--      7 broker:partitions    hash    partition -> "<entries outstanding> <dispatcher that has them>"
--      8 broker:handed        prefix  ":NAME" is a list: ids of entries that others have stored for that dispatcher
--      9 broker:seen          zset    digests of events by when they are forgotten, Unix ms
--     10 broker:generations   stream  fields generation, triggers: what journal records mean by one (see generations.py)
--     11 broker:sizes         hash    bytes of "events" and of "letters", how many letters were "dropped"
-- ARGV 1 name   2 session   3 number of the batch   4 cap of the journal   5, 6 caps of the dead letters: how many, bytes
--      7 cap of the digests   8... operations, each: name, number of arguments, arguments
--
-- Answers what was handed to this dispatcher since its last batch; entries and bytes of the stream, and how many dead
-- letters were dropped; then for each event its id: '' where a guard stopped it, and '>' before it where another
-- dispatcher has it, since that one has the earlier events of its partition.
local me = ARGV[1]
local session = string.match(redis.call('HGET', KEYS[5], me) or '', '^(%d+) ')
if session ~= ARGV[2] then
  return redis.error_reply('FENCED another dispatcher has taken over from this one')
end
-- A batch without operations looks for what was handed over; it writes nothing, and may be repeated.
if #ARGV >= 8 then redis.call('HSET', KEYS[5], me, session .. ' ' .. ARGV[3]) end

local inbox = KEYS[8] .. ':' .. me
local handed = redis.call('LRANGE', inbox, 0, -1)
if #handed > 0 then redis.call('DEL', inbox) end
local answer = {handed, 0} -- the second is put in at the end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[9], '-inf', now_ms)

local function journal(record)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'record', record)
end

-- Who is to have the next entry of a partition: whoever has those before it.
local function holder(partition)
  if partition == '' then return me end
  local count, owner = string.match(redis.call('HGET', KEYS[7], partition) or '', '^(%d+) (.+)$')
  owner = owner or me
  redis.call('HSET', KEYS[7], partition, string.format('%d %s', (count or 0) + 1, owner))
  return owner
end

-- Takes an entry off this dispatcher, and off its partition.
local function leave(id, partition)
  if redis.call('XACK', KEYS[1], 'dispatchers', id) == 0 or partition == '' then return end
  local count, owner = string.match(redis.call('HGET', KEYS[7], partition) or '', '^(%d+) (.+)$')
  if not count then return end
  if tonumber(count) > 1 then
    redis.call('HSET', KEYS[7], partition, string.format('%d %s', count - 1, owner))
  else
    redis.call('HDEL', KEYS[7], partition)
  end
end

local function hand(id, owner)
  redis.call('RPUSH', KEYS[8] .. ':' .. owner, id)
  redis.call('PUBLISH', KEYS[8] .. ':' .. owner, id)
end

local added_bytes = 0 -- to the stream
local dropped = 0

-- A dead letter that is beyond a cap takes the place of the oldest ones.
local function keep(size_bytes, fields_from, fields_to)
  redis.call('XADD', KEYS[4], '*', 'size', size_bytes, unpack(ARGV, fields_from, fields_to))
  local count = redis.call('XLEN', KEYS[4])
  if count == 1 then redis.call('HDEL', KEYS[11], 'letters') end -- whatever was counted wrongly ends with the last one
  local letters_bytes = tonumber(redis.call('HINCRBY', KEYS[11], 'letters', size_bytes))
  while count > 1 and (count > tonumber(ARGV[5]) or letters_bytes > tonumber(ARGV[6])) do
    local oldest = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
    redis.call('XDEL', KEYS[4], oldest[1])
    -- A letter without its size is of an older broker, and was not counted.
    local oldest_bytes = oldest[2][1] == 'size' and tonumber(oldest[2][2]) or 0
    letters_bytes = tonumber(redis.call('HINCRBY', KEYS[11], 'letters', -oldest_bytes))
    count = count - 1
    dropped = dropped + 1
  end
end

local stopped = false -- the next event or record, by a guard before it
local at = 8
while at <= #ARGV do
  local name, first, last = ARGV[at], at + 2, at + 1 + tonumber(ARGV[at + 1])
  if stopped then -- further guards are passed over, up to what they guard
    stopped = name ~= 'event' and name ~= 'journal'
    if name == 'event' then answer[#answer + 1] = '' end
  elseif name == 'event' then -- record, partition or '', bytes, fields of the entry
    local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, first + 3, last))
    added_bytes = added_bytes + tonumber(ARGV[first + 2])
    local owner = holder(ARGV[first + 1])
    redis.call('XCLAIM', KEYS[1], 'dispatchers', owner, 0, id, 'FORCE', 'JUSTID')
    if owner ~= me then
      hand(id, owner)
      id = '>' .. id
    end
    answer[#answer + 1] = id
    journal(ARGV[first])
  elseif name == 'journal' then -- record
    journal(ARGV[first])
  elseif name == 'partial' then -- entry id, trigger
    redis.call('HSET', KEYS[3], ARGV[first] .. ' ' .. ARGV[first + 1], '1')
  elseif name == 'unreadable' then -- entry id, its partition or ''; it stays in the stream
    leave(ARGV[first], ARGV[first + 1])
  elseif name == 'done' then -- entry id, its partition or '', bytes, triggers that were stored as partial
    leave(ARGV[first], ARGV[first + 1])
    if redis.call('XDEL', KEYS[1], ARGV[first]) == 1 then added_bytes = added_bytes - tonumber(ARGV[first + 2]) end
    for trigger = first + 3, last do
      redis.call('HDEL', KEYS[3], ARGV[first] .. ' ' .. ARGV[trigger])
    end
  elseif name == 'letter' then -- bytes, fields of the dead letter
    keep(ARGV[first], first + 1, last)
  elseif name == 'tick' then -- a guard: PingSource, planned time; each planned time passes once
    stopped = tonumber(redis.call('HGET', KEYS[6], ARGV[first]) or '-1') >= tonumber(ARGV[first + 1])
    if not stopped then redis.call('HSET', KEYS[6], ARGV[first], ARGV[first + 1]) end
  elseif name == 'once' then -- a guard: digest, for how many ms it is known, record of a duplicate
    stopped = redis.call('ZADD', KEYS[9], 'NX', now_ms + tonumber(ARGV[first + 1]), ARGV[first]) == 0
    if stopped then
      journal(ARGV[first + 2])
    elseif redis.call('ZCARD', KEYS[9]) > tonumber(ARGV[7]) then -- those that are forgotten soonest make room
      redis.call('ZPOPMIN', KEYS[9])
    end
  elseif name == 'generation' then -- its name, its Triggers, how many are kept; the latest is not kept twice
    local latest = redis.call('XREVRANGE', KEYS[10], '+', '-', 'COUNT', 1)[1]
    if not latest or latest[2][2] ~= ARGV[first] then
      redis.call('XADD', KEYS[10], 'MAXLEN', ARGV[first + 2], '*', 'generation', ARGV[first], 'triggers', ARGV[first + 1])
    end
  else
    return redis.error_reply('ERR unknown operation ' .. name)
  end
  at = last + 1
end

local events = redis.call('XLEN', KEYS[1])
local events_bytes = 0
if events > 0 then
  events_bytes = tonumber(redis.call('HINCRBY', KEYS[11], 'events', added_bytes))
else -- whatever was counted wrongly ends with an empty stream
  redis.call('HDEL', KEYS[11], 'events')
  -- And partitions of entries that somebody has deleted, unless they are under way: those are taken off as any other.
  if redis.call('EXISTS', KEYS[7]) == 1 and redis.call('XPENDING', KEYS[1], 'dispatchers')[1] == 0 then
    redis.call('DEL', KEYS[7])
  end
end
if dropped > 0 then redis.call('HINCRBY', KEYS[11], 'dropped', dropped) end
answer[2] = {events, events_bytes, dropped}
return answer
