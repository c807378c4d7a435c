#!lua flags=allow-oom
-- Makes the caller a dispatcher of the stream, so that what it sent over an earlier connection is refused from now on.
--
-- KEYS 1 broker:dispatchers  hash    name -> "<session> <last batch stored>"
--      2 broker:events       stream
--      3 broker:sizes        hash    see commit.lua
--      4 broker:life         string  a name for what Redis holds: another one, once it has lost its data
-- ARGV 1 name   2 session, higher than the one before   3 '1' where the name is new
--      4 what broker:life was for the caller so far, '' where it does not know   5 what it becomes where it is not there
--
-- Answers the number of the last batch that was stored under this name, '0' if none; entries and bytes of the stream;
-- and broker:life.
local known = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[4], ARGV[5], 'NX')
local life = redis.call('GET', KEYS[4])
-- Where Redis has lost its data nobody has taken over: what the caller has in memory is all that there is of it.
local lost = ARGV[4] ~= '' and life ~= ARGV[4]
if not known and ARGV[3] ~= '1' and not lost then
  return redis.error_reply('FENCED another dispatcher has taken over from this one')
end
local batch = string.match(known or '', ' (%d+)$') or '0'
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. batch)

local created = redis.pcall('XGROUP', 'CREATE', KEYS[2], 'dispatchers', '0', 'MKSTREAM')
if not created.err then
  -- What is in a stream without a group was stored before there were groups.
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+')) do
    redis.call('XCLAIM', KEYS[2], 'dispatchers', ARGV[1], 0, entry[1], 'FORCE', 'JUSTID')
  end
end
return {batch, redis.call('XLEN', KEYS[2]), tonumber(redis.call('HGET', KEYS[3], 'events') or '0'), life}
