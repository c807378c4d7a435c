-- Commits all effects of one run of a function, or none: memory, the reply that a duplicate gets, the state
-- kept on this node, and the node's counters.
--
-- KEYS[1]  memory    hash    field -> frame, and "" -> version (integer)
-- KEYS[2]  replies   hash    source and id of an event -> the reply recorded for it
-- KEYS[3]  times     zset    the same events by the time of their commit (Unix ms)
-- KEYS[4]  counters  hash    name -> integer, of the whole node
-- KEYS[5]  state     hash    field -> frame; named even where no state is kept here
--
-- ARGV[1]  the event: its source and id
-- ARGV[2]  the reply
-- ARGV[3]  now, Unix ms
-- ARGV[4]  the window in ms in which a duplicate is recognised
-- ARGV[5]  the version of memory that the run read, or "" where it touched no memory
-- ARGV[6]  time to live of the state in ms
-- ARGV[7]  four lists, each a count and then that many strings: memory written (field, frame, ...),
--          memory removed (field, ...), state (field, frame, ...), counters (name, increment, ...)
--
-- Returns {"ok", version}, {"duplicate", recorded reply} or {"conflict", version found}.

local position = 7
local function list()
  local count = tonumber(ARGV[position])
  local items = {}
  for i = 1, count do items[i] = ARGV[position + i] end
  position = position + count + 1
  return items
end

-- Long argument lists overflow Lua's stack in one unpack: write in slices.
local function write(key, pairs)
  for i = 1, #pairs, 2 do redis.call('HSET', key, pairs[i], pairs[i + 1]) end
end

local recorded = redis.call('HGET', KEYS[2], ARGV[1])
if recorded then return {'duplicate', recorded} end

local version = tonumber(redis.call('HGET', KEYS[1], '') or '0')
if ARGV[5] ~= '' and tonumber(ARGV[5]) ~= version then return {'conflict', version} end

local written, removed, state, counters = list(), list(), list(), list()

if #written > 0 or #removed > 0 then
  version = version + 1
  write(KEYS[1], written)
  for _, field in ipairs(removed) do redis.call('HDEL', KEYS[1], field) end
  redis.call('HSET', KEYS[1], '', version)
end

if #state > 0 then
  redis.call('DEL', KEYS[5])
  write(KEYS[5], state)
  redis.call('PEXPIRE', KEYS[5], ARGV[6])
end

local oldest = tonumber(ARGV[3]) - tonumber(ARGV[4])
local spent = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', oldest, 'LIMIT', 0, 100)
for _, event in ipairs(spent) do redis.call('HDEL', KEYS[2], event); redis.call('ZREM', KEYS[3], event) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])

for i = 1, #counters, 2 do redis.call('HINCRBY', KEYS[4], counters[i], counters[i + 1]) end
return {'ok', version}
