-- Stores one batch of the broker's writes; Redis runs it whole or not at all.
--
-- KEYS 1 broker:events        stream  entries with deliveries outstanding
--      2 broker:journal       stream  field record: one JSON object (see journal.py)
--      3 broker:done          hash    "<entry id> <trigger>" of entries that other triggers still wait for
--      4 broker:dead-letters  stream  events that nobody took
--      5 broker:writer        hash    owner, token, batch: who may write, and the last batch stored
--      6 broker:ticks         hash    PingSource -> planned time of its last tick, Unix ms
-- ARGV 1 the writer's token   2 number of the batch   3 cap of the journal   4 cap of the dead letters
--      5... operations, each: name, number of arguments, arguments
--
-- Answers the ids of the entries added, in order ('' for a tick that was added before, or has no taker).
if redis.call('HGET', KEYS[5], 'token') ~= ARGV[1] then
  return redis.error_reply('FENCED this writer was replaced')
end
redis.call('HSET', KEYS[5], 'batch', ARGV[2])

local function journal(record)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'record', record)
end

local ids = {}
local at = 5
while at <= #ARGV do
  local name, first, last = ARGV[at], at + 2, at + 1 + tonumber(ARGV[at + 1])
  if name == 'event' then -- record, fields of the entry
    ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(ARGV, first + 1, last))
    journal(ARGV[first])
  elseif name == 'journal' then -- record
    journal(ARGV[first])
  elseif name == 'partial' then -- entry id, trigger
    redis.call('HSET', KEYS[3], ARGV[first] .. ' ' .. ARGV[first + 1], '1')
  elseif name == 'done' then -- entry id, triggers that were stored as partial
    redis.call('XDEL', KEYS[1], ARGV[first])
    for trigger = first + 1, last do
      redis.call('HDEL', KEYS[3], ARGV[first] .. ' ' .. ARGV[trigger])
    end
  elseif name == 'letter' then -- fields of the dead letter
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, first, last))
  elseif name == 'tick' then -- PingSource, planned time, record, fields of the entry if there are takers
    local id = ''
    if tonumber(redis.call('HGET', KEYS[6], ARGV[first]) or '-1') < tonumber(ARGV[first + 1]) then
      redis.call('HSET', KEYS[6], ARGV[first], ARGV[first + 1])
      if last > first + 2 then
        id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, first + 3, last))
      end
      journal(ARGV[first + 2])
    end
    ids[#ids + 1] = id
  else
    return redis.error_reply('ERR unknown operation ' .. name)
  end
  at = last + 1
end
return ids
